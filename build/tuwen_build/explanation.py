"""The description of a checkpoint that `tuwen build --explain` prints. No repository is built."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tuwen_build.checkpoints import Checkpoint
from tuwen_build.options import PRECISIONS, Precision

__all__ = ["Explanation", "TowerSize", "explain"]

_BYTES: dict[Precision, int] = {
    "fp32": 4,
    "bf16": 2,
    "fp16": 2,
    "int8": 4,
}  # int8: the type of all layers that are not linear


@dataclass(frozen=True)
class TowerSize:
    """The architecture and size of a tower.

    Attributes:
        architecture: a description, such as ``ViT, patch 16, 768 wide, 12 layers, 12 heads, quick_gelu``.
        parameters: the number of parameters.
        bytes: the size of the weights in bytes, by precision.
    """

    architecture: str
    parameters: int
    bytes: dict[Precision, int]


@dataclass(frozen=True)
class Explanation:
    """The recognised checkpoint, and the rules that a build would follow."""

    family: str
    layout: str
    source: str
    vision: TowerSize
    text: TowerSize
    embedding_dimension: int
    logit_scale: float
    preprocessing: str
    tokenizer: str
    context_length: int
    max_context_length: int
    vocabulary_size: int
    text_rules: tuple[str, ...]
    files: tuple[str, ...]


def explain(checkpoint: Checkpoint) -> Explanation:
    """Describe a checkpoint."""
    images, texts = checkpoint.preprocessing, checkpoint.tokenization
    side = images.image_size
    resize = {
        "squash": f"resize to {side} x {side} pixels (bicubic, aspect ratio not kept)",
        "crop": f"resize the shortest edge to {side} pixels (bicubic), crop the centre {side} x {side}",
    }[images.resize]
    tokenizer = {
        "chinese_clip_wordpiece": "WordPiece, as in cn_clip",
        "bert_wordpiece": "WordPiece, as in transformers' BertTokenizer",
        "clip_bpe": "byte pairs, as in OpenAI's CLIP",
    }[texts.kind]
    return Explanation(
        family=checkpoint.family,
        layout=checkpoint.origin.layout,
        source=checkpoint.origin.source,
        vision=_size(checkpoint.vision, checkpoint.vision_architecture),
        text=_size(checkpoint.text, checkpoint.text_architecture),
        embedding_dimension=checkpoint.embedding_dimension,
        logit_scale=checkpoint.logit_scale,
        preprocessing=f"{resize}, then RGB; mean {_numbers(images.mean)}, std {_numbers(images.std)}",
        tokenizer=tokenizer,
        context_length=texts.default_context_length,
        max_context_length=texts.max_context_length,
        vocabulary_size=texts.vocabulary_size,
        text_rules=texts.text_rules,
        files=tuple(checkpoint.origin.files),
    )


def _size(tower: nn.Module, architecture: str) -> TowerSize:
    parameters = sum(parameter.numel() for parameter in tower.parameters())
    linear = sum(module.weight.numel() for module in tower.modules() if isinstance(module, nn.Linear))
    sizes = {precision: parameters * _BYTES[precision] for precision in PRECISIONS}
    sizes["int8"] -= linear * (_BYTES["int8"] - 1)
    return TowerSize(architecture, parameters, sizes)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)

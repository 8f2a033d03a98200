"""Chinese-CLIP in the layout of Hugging Face: ``config.json``, safetensors or ``.bin``, ``vocab.txt``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertTokenizer, ChineseCLIPModel

from tuwen_build.checkpoints._checkpoint import Checkpoint, Preprocessing, Tokenization
from tuwen_build.errors import CheckpointError

__all__ = ["ChineseClipReader"]

_SERVED_CONTEXT_LENGTH = 52  # cn_clip/clip/utils.py: "all baseline models use 52 as the context length"
# What preprocessor_config.json says in every release; a fine-tuned folder may lack the file.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ChineseClipReader:
    """Reads any size of Chinese-CLIP with a ViT (RN50 has no Hugging Face class)."""

    family = "chinese-clip"
    layout = "Chinese-CLIP in the Hugging Face layout (config.json with model_type chinese_clip)"

    def recognises(self, folder: Path) -> bool:
        config = _json(folder / "config.json") if (folder / "config.json").is_file() else {}
        return config.get("model_type") == "chinese_clip" or "ChineseCLIPModel" in (config.get("architectures") or [])

    def read(self, folder: Path, source: str) -> Checkpoint:
        vocabulary = folder / "vocab.txt"
        if not vocabulary.is_file():
            raise CheckpointError(f"{folder}: vocab.txt is missing; every Chinese-CLIP release has one, copy it here")
        weights = tuple(sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]))
        if not weights:
            raise CheckpointError(f"{folder}: no weights: neither *.safetensors nor pytorch_model*.bin")
        model = _load(folder)
        config: Any = model.config
        _check_vocabulary(vocabulary, config.text_config.vocab_size)
        mean, std = _pixel_statistics(folder / "preprocessor_config.json", config.vision_config.image_size)
        return Checkpoint(
            family=self.family,
            source=source,
            vision=_VisionTower(model),
            text=_TextTower(model),
            reference=_TransformersReference(model, vocabulary),
            preprocessing=Preprocessing(config.vision_config.image_size, mean, std),
            tokenization=Tokenization(
                vocabulary, _SERVED_CONTEXT_LENGTH, max_context_length=config.text_config.max_position_embeddings
            ),
            embedding_dimension=config.projection_dim,
            depth=max(config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers),
            logit_scale=math.exp(float(model.logit_scale.detach().float())),
            files=(folder / "config.json", *weights),
        )


class _VisionTower(nn.Module):
    def __init__(self, model: ChineseCLIPModel) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        self.projection = model.visual_projection

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.projection(self.vision_model(pixel_values=pixel_values).pooler_output)  # type: ignore[no-any-return]


class _TextTower(nn.Module):
    def __init__(self, model: ChineseCLIPModel) -> None:
        super().__init__()
        self.text_model = model.text_model
        self.projection = model.text_projection

    def forward(self, input_ids: Tensor, additive_mask: Tensor) -> Tensor:
        # A 4-D mask is used as it is; from a 2-D one transformers builds its own with the device baked in.
        hidden = self.text_model(input_ids=input_ids, attention_mask=additive_mask).last_hidden_state
        return self.projection(hidden[:, 0])  # type: ignore[no-any-return]


class _TransformersReference:
    """transformers' own feature methods, with its own masks, and its own tokenizer."""

    def __init__(self, model: ChineseCLIPModel, vocabulary: Path) -> None:
        self._model = model
        self._tokenizer = BertTokenizer.from_pretrained(str(vocabulary.parent))

    @torch.inference_mode()
    def embed_images(self, pixel_values: Tensor) -> Tensor:
        return _features(self._model.get_image_features(pixel_values=pixel_values))

    @torch.inference_mode()
    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return _features(self._model.get_text_features(input_ids=input_ids, attention_mask=attention_mask))

    def tokenize(self, text: str, context_length: int) -> list[int]:
        encoded = self._tokenizer(text, truncation=True, max_length=context_length)
        return list(encoded["input_ids"])


def _features(output: Any) -> Tensor:
    """Since transformers 5 the feature methods return an object that holds the projected vector."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _load(folder: Path) -> ChineseCLIPModel:
    """The model in float32 and eval mode, with every weight found in the files.

    transformers fills missing weights with random numbers and only warns; here that is an error.
    """
    try:
        loaded: Any = ChineseCLIPModel.from_pretrained(
            str(folder),
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers, safetensors and pickle each raise their own
        raise CheckpointError(f"{folder}: cannot load the weights: {error}") from error
    model, report = loaded
    for kind in ("missing_keys", "mismatched_keys", "error_msgs"):
        if problems := sorted(map(str, report.get(kind) or ())):
            shown = ", ".join(problems[:5]) + (f" and {len(problems) - 5} more" if len(problems) > 5 else "")
            raise CheckpointError(f"{folder}: the weights do not fit config.json: {kind.replace('_', ' ')}: {shown}")
    model.eval()
    return model  # type: ignore[no-any-return]


def _check_vocabulary(path: Path, size: int) -> None:
    tokens = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    if len(tokens) != size:
        raise CheckpointError(f"{path} has {len(tokens)} tokens, config.json says vocab_size {size}")
    if missing := {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - set(tokens):
        raise CheckpointError(f"{path} lacks {', '.join(sorted(missing))}")
    if tokens[0] != "[PAD]":
        raise CheckpointError(f"{path}: the first token must be [PAD]: the reference takes id 0 for padding")


def _pixel_statistics(path: Path, image_size: int) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std, from the preprocessor's file where there is one; its other rules must be Chinese-CLIP's."""
    if not path.is_file():
        return _MEAN, _STD
    settings = _json(path)
    if settings.get("do_center_crop"):
        raise CheckpointError(f"{path} asks for a centre crop; Chinese-CLIP squashes to a square")
    size = settings.get("size", image_size)
    side = size.get("height", size.get("shortest_edge")) if isinstance(size, dict) else size
    if side != image_size:
        raise CheckpointError(f"{path} resizes to {side} pixels, config.json says image_size {image_size}")
    if settings.get("resample", 3) != 3:
        raise CheckpointError(f"{path} asks for resample {settings['resample']}; Chinese-CLIP uses bicubic (3)")
    mean, std = (tuple(settings.get(name, default)) for name, default in (("image_mean", _MEAN), ("image_std", _STD)))
    return mean, std


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return content

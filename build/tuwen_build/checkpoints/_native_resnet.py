"""A native Chinese-CLIP with a ResNet (RN50): our own image tower beside transformers' text tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ChineseCLIPTextConfig
from transformers.models.chinese_clip.modeling_chinese_clip import ChineseCLIPTextModel

from tuwen_build.checkpoints._architecture import BertShape, ResNetShape
from tuwen_build.checkpoints._checkpoint import Checkpoint, Origin, Preprocessing, Reference, Tokenization
from tuwen_build.checkpoints._descriptions import bert_in_words
from tuwen_build.checkpoints._image_processor import published_image_processor
from tuwen_build.checkpoints._native_names import transformers_weights
from tuwen_build.checkpoints._native_text import text_settings
from tuwen_build.checkpoints._numbers import exponential_of
from tuwen_build.checkpoints._resnet_reference import resnet_reference
from tuwen_build.checkpoints._tokenizers import reference_tokenizer
from tuwen_build.checkpoints._weights import load_strictly
from tuwen_build.errors import CheckpointError
from tuwen_build.towers import ResNetTower, TextTower

__all__ = ["resnet_checkpoint"]


def resnet_checkpoint(
    weights: Mapping[str, Tensor],
    text: BertShape,
    vision: ResNetShape,
    *,
    origin: Origin,
    preprocessing: Preprocessing,
    tokenization: Tokenization,
) -> Checkpoint:
    """Return a checkpoint from native weights.

    Raises:
        CheckpointError: a weight is missing, unexpected or of a wrong shape.
    """
    visual = {name.removeprefix("visual."): tensor for name, tensor in weights.items() if name.startswith("visual.")}
    try:
        image_tower = ResNetTower(visual, vision.blocks, vision.width, vision.heads)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{origin.source}: the weights do not fit the image tower: {error}") from error
    rest = {name: tensor for name, tensor in weights.items() if not name.startswith("visual.")}
    logit_scale = rest.pop("logit_scale")
    text_model, projection = _text_modules(text, rest, origin.source)

    @torch.inference_mode()
    def embed_texts(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = text_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return projection(hidden[:, 0])  # type: ignore[no-any-return]

    blocks = "-".join(map(str, vision.blocks))
    return Checkpoint(
        family="chinese-clip",
        origin=origin,
        vision=image_tower.eval(),
        text=TextTower(text_model, projection).eval(),
        vision_architecture=f"ResNet, {blocks} bottlenecks, {vision.width} wide, {vision.heads} pooling heads, relu",
        text_architecture=bert_in_words(text_model.config),
        reference=Reference(
            resnet_reference(visual, vision.heads),
            embed_texts,
            reference_tokenizer(tokenization),
            published_image_processor(vision.image_size, "squash"),
        ),
        preprocessing=preprocessing,
        tokenization=tokenization,
        embedding_dimension=weights["text_projection"].shape[1],
        # the stem has three convolutions, a bottleneck three, the pooling two steps
        depth=max(text.layers, (3 + 3 * sum(vision.blocks) + 2) // 2),
        logit_scale=exponential_of(logit_scale, origin.source),
    )


def _text_modules(text: BertShape, weights: Mapping[str, Tensor], source: str) -> tuple[Any, nn.Module]:
    """Return BERT without its pooler, and the linear layer that projects the first token's hidden state."""
    model = ChineseCLIPTextModel(ChineseCLIPTextConfig(**text_settings(text)), add_pooling_layer=False)
    projection = nn.Linear(text.width, weights["text_projection"].shape[1], bias=False)
    both = nn.ModuleDict({"text_model": model, "text_projection": projection}).eval()
    load_strictly(both, transformers_weights(weights), source)
    return model, projection

"""The sizes of a native Chinese-CLIP model: read from its JSON files, or inferred from the shapes of its tensors."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tuwen_build.errors import CheckpointError

__all__ = ["Architecture", "BertShape", "ResNetShape", "VisionTransformerShape", "described", "inferred"]

# The tensors do not show the number of attention heads. In every published model (cn_clip/clip/model_configs) the
# number follows from the width of the vision transformer, of the ResNet's stem, or of BERT.
_VISION_HEADS = {768: 12, 1024: 16, 1280: 16}
_RESNET_HEADS = {64: 32}
_BERT_HEADS = {768: 12, 1024: 16}


@dataclass(frozen=True)
class VisionTransformerShape:
    """The sizes of a vision transformer. The activation is QuickGELU in every size (cn_clip/clip/model.py)."""

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class ResNetShape:
    """The sizes of CLIP's ResNet.

    Attributes:
        image_size: the side of the square input, in pixels.
        blocks: the number of bottlenecks in each layer.
        width: the number of channels after the stem.
        heads: the number of heads of the attention pooling.
    """

    image_size: int
    blocks: tuple[int, ...]
    width: int
    heads: int


@dataclass(frozen=True)
class BertShape:
    """The sizes of BERT, the text tower. LayerNorm's epsilon is 1e-12 in every size (cn_clip/clip/model.py)."""

    vocabulary_size: int
    positions: int
    types: int
    width: int
    intermediate: int
    layers: int
    heads: int
    activation: str = "gelu"  # the value in the JSON file of every published text tower


@dataclass(frozen=True)
class Architecture:
    """The shapes of both towers and the dimension of their common embedding space."""

    embedding_dimension: int
    vision: VisionTransformerShape | ResNetShape
    text: BertShape


def inferred(weights: Mapping[str, Tensor], origin: object, heads: tuple[int, int] | None = None) -> Architecture:
    """Return the architecture that fits the tensors. The numbers of attention heads are looked up by width.

    Args:
        weights: the tensors by their native names.
        origin: the file, for error messages.
        heads: the attention heads of the image and the text tower. Needed if no published model has these widths.

    Raises:
        CheckpointError: the names are not Chinese-CLIP's, or the number of heads is unknown.
    """
    for name in ("visual.conv1.weight", "text_projection", "bert.embeddings.word_embeddings.weight", "logit_scale"):
        if name not in weights:
            shown = ", ".join(sorted(weights)[:3])
            raise CheckpointError(
                f"{origin} is not a native Chinese-CLIP checkpoint: it lacks {name}; it holds {shown}, ..."
            )
    try:
        vision = _vision(weights, heads and heads[0], origin)
        text = _bert(weights, heads and heads[1], origin)
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{origin} is incomplete: it lacks {error.args[0]}") from error
    return Architecture(weights["text_projection"].shape[1], vision, text)


def described(
    vision: Mapping[str, Any], text: Mapping[str, Any], weights: Mapping[str, Tensor], origin: object
) -> Architecture:
    """Read the architecture from two JSON files of cn_clip's schema, and compare it with the tensors.

    Raises:
        CheckpointError: a key is missing, or the files and the tensors belong to different models.
    """
    try:
        layers = vision["vision_layers"]
        width, head_width = vision["vision_width"], vision.get("vision_head_width", 64)
        shape: VisionTransformerShape | ResNetShape
        if isinstance(layers, int):
            patch = vision["vision_patch_size"]
            shape = VisionTransformerShape(vision["image_resolution"], patch, width, layers, width // head_width)
        else:  # cn_clip's RN50.json holds the list as a string
            blocks = tuple(ast.literal_eval(layers) if isinstance(layers, str) else layers)
            shape = ResNetShape(vision["image_resolution"], blocks, width, width * 32 // head_width)
        bert = BertShape(
            vocabulary_size=text["vocab_size"],
            positions=text["text_max_position_embeddings"],
            types=text["text_type_vocab_size"],
            width=text["text_hidden_size"],
            intermediate=text["text_intermediate_size"],
            layers=text["text_num_hidden_layers"],
            heads=text["text_num_attention_heads"],
            activation=text["text_hidden_act"],
        )
        architecture = Architecture(vision["embed_dim"], shape, bert)
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        raise CheckpointError(
            f"{origin}: cannot read vision_model_config.json or text_model_config.json: {error!r}"
        ) from error
    actual = inferred(weights, origin, (shape.heads, bert.heads))
    actual = replace(actual, text=replace(actual.text, activation=bert.activation))
    differences = [*_differences(shape, actual.vision), *_differences(bert, actual.text)]
    if architecture.embedding_dimension != actual.embedding_dimension:
        wanted, got = architecture.embedding_dimension, actual.embedding_dimension
        differences.append(f"embed_dim {wanted} in the JSON file, {got} in the weights")
    if differences:
        raise CheckpointError(
            f"{origin}: the JSON files and the weights are of different models: {', '.join(differences)}"
        )
    return actual


def _differences(described: object, actual: object) -> list[str]:
    if type(described) is not type(actual):
        return [f"{type(described).__name__} in the JSON file, {type(actual).__name__} in the weights"]
    pairs = zip(vars(described).items(), vars(actual).values(), strict=True)
    return [f"{name} {wanted} in the JSON file, {got} in the weights" for (name, wanted), got in pairs if wanted != got]


def _vision(weights: Mapping[str, Tensor], heads: int | None, origin: object) -> VisionTransformerShape | ResNetShape:
    if "visual.attnpool.positional_embedding" in weights:
        width = weights["visual.conv3.weight"].shape[0]
        blocks = tuple(_count(weights, f"visual.layer{layer}.") for layer in (1, 2, 3, 4))
        side = _grid(weights["visual.attnpool.positional_embedding"], origin)
        return ResNetShape(32 * side, blocks, width, heads or _heads(_RESNET_HEADS, width, "image", origin))
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    return VisionTransformerShape(
        image_size=patch * _grid(weights["visual.positional_embedding"], origin),
        patch_size=patch,
        width=width,
        layers=_count(weights, "visual.transformer.resblocks."),
        heads=heads or _heads(_VISION_HEADS, width, "image", origin),
    )


def _bert(weights: Mapping[str, Tensor], heads: int | None, origin: object) -> BertShape:
    vocabulary_size, width = weights["bert.embeddings.word_embeddings.weight"].shape
    return BertShape(
        vocabulary_size=vocabulary_size,
        positions=weights["bert.embeddings.position_embeddings.weight"].shape[0],
        types=weights["bert.embeddings.token_type_embeddings.weight"].shape[0],
        width=width,
        intermediate=weights["bert.encoder.layer.0.intermediate.dense.weight"].shape[0],
        layers=_count(weights, "bert.encoder.layer."),
        heads=heads or _heads(_BERT_HEADS, width, "text", origin),
    )


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of numbered modules, such as ``layers.0``, ``layers.1``."""
    return len({name.removeprefix(prefix).partition(".")[0] for name in weights if name.startswith(prefix)})


def _grid(positions: Tensor, origin: object) -> int:
    """Return the side of the grid that the position embeddings cover, without the class token."""
    side = math.isqrt(positions.shape[0] - 1)
    if side * side != positions.shape[0] - 1:
        raise CheckpointError(
            f"{origin}: expected a square number of position embeddings plus one for the class token, "
            f"got {positions.shape[0]}"
        )
    return side


def _heads(published: Mapping[int, int], width: int, tower: str, origin: object) -> int:
    if width not in published:
        raise CheckpointError(
            f"{origin}: the number of attention heads of the {tower} tower is unknown, because no published model has "
            f"the width {width}; pass it with --heads IMAGE,TEXT, such as --heads 12,12"
        )
    return published[width]

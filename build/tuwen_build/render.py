"""The configs of a built repository, from those in ``model_repository/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tuwen import ModelCard
from tuwen_build.configs import read_config

__all__ = ["render_config", "templates"]


def templates() -> Path:
    """The folder `model_repository`: beside this file in an installed package, else at the root of the source."""
    packaged = Path(__file__).parent / "model_repository"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "model_repository"


def render_config(template: Path, card: ModelCard, length_buckets: tuple[int, ...]) -> ModelConfig:
    """One configuration: the template with this checkpoint's shapes, warm-ups and model card.

    The ensembles carry the whole card, other models what they have a parameter for.
    """
    config = read_config(template)
    config.max_batch_size = card.max_batch_size
    for tensor in (*config.input, *config.output):
        if tensor.name == "pixel_values":
            tensor.dims[:] = [3, card.image_size, card.image_size]
        elif tensor.name == "embedding":
            tensor.dims[:] = [card.embedding_dimension]
    if card.precision == "int8" and config.backend == "pytorch":  # there are no such kernels for these shapes on a GPU
        config.instance_group[0].kind = ModelInstanceGroup.KIND_CPU
    _render_warmups(config, card.image_size, length_buckets)
    for name, value in card.to_parameters().items():
        if config.platform == "ensemble" or name in config.parameters:
            config.parameters[name].string_value = value
    return config


def _render_warmups(config: Any, image_size: int, length_buckets: tuple[int, ...]) -> None:
    """One warm-up for the image size, or one for each length bucket, each shaped like the template's first."""
    if not config.model_warmup:
        return
    first = config.model_warmup[0]
    if "pixel_values" in first.inputs:
        first.inputs["pixel_values"].dims[:] = [3, image_size, image_size]
        return
    warmups = []
    for bucket in length_buckets:
        warmup = type(first)()
        warmup.CopyFrom(first)
        warmup.name = f"one_text_of_{bucket}_tokens"
        for tensor in warmup.inputs.values():
            tensor.dims[:] = [bucket]
        warmups.append(warmup)
    del config.model_warmup[:]
    config.model_warmup.extend(warmups)

"""The configs of a built repository, from those in ``model_repository/``, through Triton's own protobuf."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

__all__ = ["CardValues", "RepositoryShape", "render_config", "templates"]


@dataclass(frozen=True)
class RepositoryShape:
    """The numbers that differ from one checkpoint and build to the next."""

    image_size: int
    embedding_dimension: int
    max_batch_size: int
    length_buckets: tuple[int, ...]


@dataclass(frozen=True)
class CardValues:
    """The model card that both ensembles carry as `parameters`; ``tuwen.ModelCard`` reads it back."""

    family: str
    checkpoint: str
    fingerprint: str
    embedding_dimension: int
    image_size: int
    context_length: int
    logit_scale: float
    precision: str


def templates() -> Path:
    """The folder `model_repository`: beside this file in an installed package, else at the root of the source."""
    packaged = Path(__file__).parent / "model_repository"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "model_repository"


def render_config(template: Path, shape: RepositoryShape, card: CardValues) -> str:
    """One ``config.pbtxt``: the template with this checkpoint's shapes, warm-ups and card."""
    config = text_format.Parse(template.read_text(encoding="utf-8"), ModelConfig())
    config.max_batch_size = shape.max_batch_size
    for tensor in (*config.input, *config.output):
        if tensor.name == "pixel_values":
            tensor.dims[:] = [3, shape.image_size, shape.image_size]
        elif tensor.name == "embedding":
            tensor.dims[:] = [shape.embedding_dimension]
    _render_warmups(config, shape)
    if config.platform == "ensemble":
        for name, value in asdict(card).items():
            config.parameters[name].string_value = str(value)
    header = "# Written by `tuwen build`; the commented original is model_repository/ in tuwen's source.\n"
    return header + str(text_format.MessageToString(config, as_utf8=True))


def _render_warmups(config: Any, shape: RepositoryShape) -> None:
    """One warm-up for the image size, or one for each length bucket, each shaped like the template's first."""
    if not config.model_warmup:
        return
    first = config.model_warmup[0]
    if "pixel_values" in first.inputs:
        first.inputs["pixel_values"].dims[:] = [3, shape.image_size, shape.image_size]
        return
    warmups = []
    for bucket in shape.length_buckets:
        warmup = type(first)()
        warmup.CopyFrom(first)
        warmup.name = f"one_text_of_{bucket}_tokens"
        for tensor in warmup.inputs.values():
            tensor.dims[:] = [bucket]
        warmups.append(warmup)
    del config.model_warmup[:]
    config.model_warmup.extend(warmups)

"""Rendering the configs of a built repository from the templates in ``model_repository/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tuwen import ModelCard
from tuwen.model_names import full_name
from tuwen_repository.configs import read_config

__all__ = ["WARMUP_FILE", "needs_full_warmup", "render_config", "templates"]

WARMUP_FILE = "ones"
"""The file in the text encoder's folder ``warmup``. It serves as ids and as mask of a text of full length."""

_NAMED_OUTPUT = "embedding."  # the fingerprint follows; the SDK reads it from the output's name


def templates() -> Path:
    """Return the folder `model_repository`, from the installed package or the root of the source tree."""
    packaged = Path(__file__).parents[1] / "model_repository"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "model_repository"


def render_config(template: Path, card: ModelCard) -> ModelConfig:
    """Return one configuration: the template with this checkpoint's shapes, warm-ups, model card and name.

    The ensembles carry the whole card. Other models carry the values for which their template has a parameter.
    """
    config = read_config(template)
    config.max_batch_size = card.max_batch_size
    for tensor in (*config.input, *config.output):
        if tensor.name == "pixel_values":
            tensor.dims[:] = [3, card.image_size, card.image_size]
        elif tensor.name in ("embedding", _NAMED_OUTPUT):
            tensor.dims[:] = [card.embedding_dimension]
        elif tensor.name in ("input_ids", "attention_mask"):
            # A fixed length makes Triton reject other lengths, 0 included, with INVALID_ARGUMENT. It also protects
            # Triton's response cache, whose key has no shapes: (2, L / 2) would share the entry of (1, L).
            tensor.dims[:] = [card.context_length]
    if card.precision == "int8" and config.backend == "pytorch":  # on a GPU these kernels do not exist for these shapes
        config.instance_group[0].kind = ModelInstanceGroup.KIND_CPU
    _render_warmups(config, card)
    _render_named_outputs(config, card)
    config.name = full_name(card.name, config.name)
    for step in config.ensemble_scheduling.step:
        step.model_name = full_name(card.name, step.model_name)
    for name, value in card.to_parameters().items():
        if config.platform == "ensemble" or name in config.parameters:
            config.parameters[name].string_value = value
    return config


def needs_full_warmup(card: ModelCard) -> bool:
    """Return whether the encoders must compute a full batch before they are ready.

    On a GPU, the first full batch loads CUDA's libraries, chooses kernels and allocates memory. Only fp16 is known to
    run on a GPU. A CPU may need minutes for a full batch of a large model.
    """
    return card.precision == "fp16"


def _render_named_outputs(config: Any, card: ModelCard) -> None:
    """Append the fingerprint to the name `embedding.` among the outputs and in the steps of an ensemble."""
    for tensor in config.output:
        if tensor.name == _NAMED_OUTPUT:
            tensor.name += card.fingerprint
    for step in config.ensemble_scheduling.step:
        for name, tensor_name in step.output_map.items():
            if tensor_name == _NAMED_OUTPUT:
                step.output_map[name] = tensor_name + card.fingerprint


def _render_warmups(config: Any, card: ModelCard) -> None:
    if config.backend == "pytorch" and needs_full_warmup(card):
        _add_full_warmup(config, card)
    for warmup in config.model_warmup:
        for name, tensor in warmup.inputs.items():
            side = card.image_size
            tensor.dims[:] = [3, side, side] if name == "pixel_values" else [card.context_length]


def _add_full_warmup(config: Any, card: ModelCard) -> None:
    full = config.model_warmup.add()
    full.CopyFrom(config.model_warmup[0])
    full.name, full.batch_size, full.count = "full_batch", card.max_batch_size, 1
    for name, tensor in full.inputs.items():
        if name != "pixel_values":  # a text of zeros counts as one token
            tensor.input_data_file = WARMUP_FILE

"""Finding the weights of a model in the containers that training programs save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from tuwen_build.errors import CheckpointError

__all__ = ["state_dict_of", "without_prefixes"]

T = TypeVar("T")
# cn_clip, open_clip and Lightning; torch's tutorials; timm and Swin; DeepSpeed
_CONTAINERS = ("state_dict", "model_state_dict", "model", "module")
# DistributedDataParallel; torch.compile; ModelScope after fine-tuning; Lightning modules with the model as an attribute
_PREFIXES = ("module.", "_orig_mod.", "clip_model.", "model.", "clip.", "net.")
# torch.compile, FSDP and activation checkpointing add these prefixes to the name of any submodule.
_INFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# Names that every CLIP has once: the first layer of the image tower (native and in transformers), and the logit scale.
_FIRST_LAYERS = ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight")
_SCALE = "logit_scale"


def state_dict_of(content: object, path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file's content, by name. They lie at the top level or under a key such as ``state_dict``.

    Raises:
        CheckpointError: there are no tensors, or several containers hold tensors.
    """
    tensors = _tensors(content)
    while isinstance(content, Mapping):
        holding = [name for name in _CONTAINERS if _holds_tensors(content.get(name))]
        if len(holding) > 1:
            raise CheckpointError(
                f"{path} holds weights in {' and in '.join(map(repr, holding))}; expected weights under one key. Save "
                f"only the right weights: torch.save(content[{holding[0]!r}], ...)"
            )
        if not holding:
            break
        content = content[holding[0]]
        tensors = _tensors(content) or tensors
    if tensors:
        return tensors
    others = [repr(name) for name, value in content.items() if _tensors(value)] if isinstance(content, Mapping) else []
    hint = f"; the file holds tensors in {', '.join(others)}: save only those tensors" if others else ""
    raise CheckpointError(
        f"{path} holds no state dict: expected tensors at the top level or under {', '.join(_CONTAINERS)}{hint}"
    )


def without_prefixes(weights: Mapping[str, T], path: Path) -> dict[str, T]:
    """Return a mapping whose keys are weights' names, after the prefixes that wrappers add are removed from the names.

    Raises:
        CheckpointError: the file holds several models, tensors outside the model, or the same name with and without a
            prefix.
    """
    names = {name: name for name in weights}
    for infix in _INFIXES:
        names = {name: short.replace(f".{infix}", ".").removeprefix(infix) for name, short in names.items()}
    while prefix := next((one for one in _PREFIXES if all(name.startswith(one) for name in names.values())), None):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    names = _without_own_prefix(names, path)
    if len(set(names.values())) < len(names):
        raise CheckpointError(f"{path} holds some tensors twice, with and without a wrapper's prefix; save one of each")
    return {short: weights[name] for name, short in names.items()}


def _without_own_prefix(names: dict[str, str], path: Path) -> dict[str, str]:
    """Remove an unknown prefix, such as an attribute's name, if every name has it and the tensors form one CLIP model.

    Args:
        names: a mapping from each tensor's name in the file to the name that is shortened.
        path: the file, for error messages.
    """
    present = set(names.values())
    stems = sorted(
        name.removesuffix(first) for first in _FIRST_LAYERS for name in present if name.endswith(f".{first}")
    )
    models = [stem for stem in stems if stem + _SCALE in present]
    if not models:
        return names
    others = sorted(name for name in present if not name.startswith(models[0]))
    if others:
        raise CheckpointError(
            f"{path} holds CLIP models under {' and '.join(map(repr, models))}, and {len(others)} tensors outside the "
            f"first model, such as {others[0]}. Save only the tensors of one model"
        )
    return {name: short.removeprefix(models[0]) for name, short in names.items()}


def _tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _holds_tensors(content: object) -> bool:
    """Return whether a container holds tensors, directly or in a container inside it."""
    if not isinstance(content, Mapping):
        return False
    return bool(_tensors(content)) or any(_holds_tensors(content.get(name)) for name in _CONTAINERS)

"""Tensors out of pickled files, without running a line of what is in them."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuwen_build.checkpoints._folders import check_no_pointer
from tuwen_build.checkpoints._wrappers import state_dict_of, without_prefixes
from tuwen_build.errors import CheckpointError

__all__ = ["check_loading_report", "check_no_lora", "first_line", "load_pickled_weights", "load_strictly", "some"]


def load_pickled_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a ``.pt`` or ``.bin`` file, in float32, without the prefixes that wrappers leave.

    Raises:
        CheckpointError: it is truncated, no checkpoint, a Git LFS pointer, holds several models, or would run code.
    """
    check_no_pointer(path)
    _refuse_torchscript(path)
    try:
        # weights_only: a pickle can name any function to be called; this loads nothing but tensors.
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a file of weights alone, and is not loaded: {_what_it_would_run(error)}"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, ValueError, ... by what is broken
        raise CheckpointError(f"{path} is truncated, or no PyTorch checkpoint: {first_line(error)}") from error
    weights = without_prefixes(state_dict_of(content, path), path)
    check_no_lora(weights, path)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}


def check_loading_report(path: Path, report: Mapping[str, Any], *, unused: tuple[str, ...] = ()) -> None:
    """Refuse what transformers only warns of: weights that it filled with random numbers, or left out.

    Args:
        report: what ``from_pretrained(..., output_loading_info=True)`` gave.
        unused: endings of names that the files may hold and the model does not need.
    """
    unused = (*unused, "position_ids")  # a buffer that older versions saved
    problems = {
        "missing": report["missing_keys"],
        "of another shape": [f"{name} {tuple(theirs)}" for name, theirs, _ in report["mismatched_keys"]],
        "unexpected": [name for name in report["unexpected_keys"] if not name.endswith(unused)],
        "not loaded": report["error_msgs"],
    }
    for kind, names in problems.items():
        if names:
            raise CheckpointError(f"{path}: the weights do not fit config.json: {kind}: {some(names)}")


def check_no_lora(names: Iterable[str], path: Path) -> None:
    """Refuse weights that hold a LoRA adapter beside those of the model.

    Raises:
        CheckpointError: names some of them, and says how to merge them.
    """
    if adapters := [name for name in names if ".lora_" in name]:
        raise CheckpointError(
            f"{path} holds the weights of a LoRA adapter: {some(adapters)}. "
            "Merge them with peft's merge_and_unload(), save the model and build from that"
        )


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load every weight into its place, except for the buffers that transformers makes itself.

    Raises:
        CheckpointError: a weight is missing, left over or of another shape.
    """
    try:
        report = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # shapes
        raise CheckpointError(f"{source}: the weights do not fit together: {error}") from error
    missing = [name for name in report.missing_keys if not name.endswith(("position_ids", "token_type_ids"))]
    for kind, names in (("missing", missing), ("unexpected", report.unexpected_keys)):
        if names:
            raise CheckpointError(f"{source} is not whole, or not Chinese-CLIP: {kind} weights: {some(names)}")


def some(names: Iterable[str]) -> str:
    """The first few of many names."""
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")


def _refuse_torchscript(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise CheckpointError(
                    f"{path} is a TorchScript program, not weights (OpenAI's own downloads are); take the same model "
                    "in the Hugging Face layout, such as openai/clip-vit-base-patch32"
                )


def _what_it_would_run(error: pickle.UnpicklingError) -> str:
    name = re.search(r"GLOBAL (\S+)", str(error))
    return f"it names {name[1]} to be run or filled in" if name else "its pickle is broken"


def first_line(error: Exception) -> str:
    """What went wrong, without the advice that libraries add."""
    return str(error).strip().partition("\n")[0] or type(error).__name__

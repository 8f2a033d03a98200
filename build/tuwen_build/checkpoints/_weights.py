"""Tensors from pickled files, loaded without running code from the file."""

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
    """Return the state dict of a ``.pt`` or ``.bin`` file, in float32, without the prefixes of wrappers.

    Raises:
        CheckpointError: the file is truncated, is not a checkpoint, is a Git LFS pointer, holds several models, or
            would run code.
    """
    check_no_pointer(path)
    _refuse_torchscript(path)
    try:
        # weights_only: a pickle can call any function; this setting loads tensors alone.
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was not loaded, because it holds more than weights: {_what_it_would_run(error)}"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, ValueError and others
        raise CheckpointError(f"{path} is truncated or not a PyTorch checkpoint: {first_line(error)}") from error
    weights = without_prefixes(state_dict_of(content, path), path)
    check_no_lora(weights, path)
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}


def check_loading_report(path: Path, report: Mapping[str, Any], *, unused: tuple[str, ...] = ()) -> None:
    """Reject weights that are missing, unexpected or of a wrong shape. transformers only warns of such weights.

    Args:
        report: the report of ``from_pretrained(..., output_loading_info=True)``.
        unused: endings of the names of unexpected weights that are allowed.
    """
    unused = (*unused, "position_ids")  # a buffer that older versions of transformers saved
    problems = {
        "missing": report["missing_keys"],
        "of another shape": [f"{name} {tuple(theirs)}" for name, theirs, _ in report["mismatched_keys"]],
        "unexpected": [name for name in report["unexpected_keys"] if not name.endswith(unused)],
        "not loaded": report["error_msgs"],
    }
    for kind, names in problems.items():
        if names:
            raise CheckpointError(f"{path}: the weights do not fit config.json; {kind}: {some(names)}")


def check_no_lora(names: Iterable[str], path: Path) -> None:
    """Reject weights that hold a LoRA adapter beside the weights of the model.

    Raises:
        CheckpointError: the weights hold an adapter. The message names some of its weights, and says how to merge it.
    """
    if adapters := [name for name in names if ".lora_" in name]:
        raise CheckpointError(
            f"{path} holds the weights of a LoRA adapter: {some(adapters)}. "
            "Merge the adapter with peft's merge_and_unload(), save the model, and build from the saved model"
        )


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load every weight into a model. Only buffers that transformers creates itself may be missing.

    Raises:
        CheckpointError: a weight is missing, unexpected or of a wrong shape.
    """
    try:
        report = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # torch raises it for shapes that differ
        raise CheckpointError(f"{source}: the shapes of the weights do not fit the model: {error}") from error
    missing = [name for name in report.missing_keys if not name.endswith(("position_ids", "token_type_ids"))]
    for kind, names in (("missing", missing), ("unexpected", report.unexpected_keys)):
        if names:
            raise CheckpointError(f"{source} is incomplete or not Chinese-CLIP; {kind} weights: {some(names)}")


def some(names: Iterable[str]) -> str:
    """Return the first five of many names, and the number of further names."""
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")


def _refuse_torchscript(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise CheckpointError(
                    f"{path} is a TorchScript program, like OpenAI's own downloads; expected weights. Take the same "
                    "model in the Hugging Face layout, such as openai/clip-vit-base-patch32"
                )


def _what_it_would_run(error: pickle.UnpicklingError) -> str:
    name = re.search(r"GLOBAL (\S+)", str(error))
    return f"its pickle refers to {name[1]}" if name else "its pickle is broken"


def first_line(error: Exception) -> str:
    """Return the first line of an error message, without the advice that libraries add."""
    return str(error).strip().partition("\n")[0] or type(error).__name__

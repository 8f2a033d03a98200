"""The device of an encoder, and the warnings about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

__all__ = ["batch_of_ones", "choose_device", "warn_of_slow_arithmetic"]

_BF16_CAPABILITY = (8, 0)  # Ampere
_DTYPES = {"TYPE_UINT8": np.uint8, "TYPE_INT64": np.int64}


def choose_device(args: Mapping[str, str]) -> torch.device:
    """Return the device of an instance: the GPU that Triton chose, or the CPU if PyTorch cannot use a GPU."""
    if args["model_instance_kind"] != "GPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        _warn(
            f"this machine has a GPU, but PyTorch {torch.__version__} cannot use it, so {args['model_name']} runs on "
            "the CPU; install a PyTorch with CUDA that fits the driver, or hide the GPU with CUDA_VISIBLE_DEVICES=''"
        )
        return torch.device("cpu")
    return torch.device("cuda", int(args["model_instance_device_id"]))


def warn_of_slow_arithmetic(module: torch.nn.Module, device: torch.device) -> None:
    """Write a warning if a module computes in bf16 on a GPU without bf16 arithmetic."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY:
        return
    if any(parameter.dtype == torch.bfloat16 for parameter in module.parameters()):
        _warn(
            f"{torch.cuda.get_device_name(device)} has no bf16 arithmetic, which GPUs have from Ampere on, so this "
            "repository is slow here; build it with --precision fp16"
        )


def batch_of_ones(config: Mapping[str, Any], names: Sequence[str], size: int) -> list[NDArray[Any]]:
    """Return the inputs of a batch of a given size, in the order of the names.

    The inputs hold ones, so that an attention mask contains no padding.
    """
    tensors = {tensor["name"]: tensor for tensor in config["input"]}
    return [
        np.ones((size, *map(int, tensors[name]["dims"])), dtype=_DTYPES[tensors[name]["data_type"]]) for name in names
    ]


def _warn(message: str) -> None:
    """Write a warning to the log. `tuwen serve` recognises the warning by its first word, and shows it."""
    pb_utils.Logger.log_warn(f"tuwen: {message}")

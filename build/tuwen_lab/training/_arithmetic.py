"""The device and the precision of a training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from tuwen import InvalidArgumentError
from tuwen_build.hardware import cpu_has_bf16_tiles
from tuwen_lab.options import TrainingPrecision

__all__ = ["Arithmetic", "choose_arithmetic"]


@dataclass(frozen=True)
class Arithmetic:
    """A device, and a precision that the device supports.

    Attributes:
        device: the device of the towers.
        precision: the precision of the towers' arithmetic: fp32, bf16 or fp16.
    """

    device: torch.device
    precision: TrainingPrecision

    @property
    def autocast(self) -> Callable[[], AbstractContextManager[object]]:
        """The autocast context of the towers."""
        if self.precision == "fp32":
            return nullcontext
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return lambda: torch.autocast(self.device.type, dtype)

    @property
    def attention(self) -> str:
        """The implementation of attention for transformers.

        On CPUs in bf16, the backward pass of torch's fused attention takes five times as long as that of plain
        attention (torch 2.13).
        """
        return "eager" if self.device.type == "cpu" and self.precision == "bf16" else "sdpa"


def choose_arithmetic(device: str, precision: TrainingPrecision) -> Arithmetic:
    """Return the requested device and precision. ``auto`` selects the machine's best device or precision.

    Raises:
        InvalidArgumentError: torch does not know the device, or the device does not support the precision.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        chosen = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InvalidArgumentError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from error
    if precision == "fp16" and chosen.type != "cuda":
        raise InvalidArgumentError("fp16 training needs a GPU; on a CPU, use bf16 or fp32")
    if precision == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False) if chosen.type == "cuda" else cpu_has_bf16_tiles()
        )
        precision = "bf16" if native else "fp32"
    return Arithmetic(chosen, precision)

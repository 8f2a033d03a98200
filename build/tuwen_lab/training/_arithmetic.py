"""Where and how precisely is computed."""

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
    """A device and a precision that it is good at.

    Attributes:
        device: the device.
        precision: fp32, bf16 or fp16.
    """

    device: torch.device
    precision: TrainingPrecision

    @property
    def autocast(self) -> Callable[[], AbstractContextManager[object]]:
        """What the towers run under."""
        if self.precision == "fp32":
            return nullcontext
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return lambda: torch.autocast(self.device.type, dtype)

    @property
    def attention(self) -> str:
        """The implementation of attention that transformers is to use.

        torch's fused attention for CPUs takes five times as long backward in bf16 as the plain one (2.13).
        """
        return "eager" if self.device.type == "cpu" and self.precision == "bf16" else "sdpa"


def choose_arithmetic(device: str, precision: TrainingPrecision) -> Arithmetic:
    """What is asked for; of ``auto`` the best that is there.

    Raises:
        InvalidArgumentError: torch knows no such device, or the device cannot do it.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        chosen = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InvalidArgumentError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error
    if precision == "fp16" and chosen.type != "cuda":
        raise InvalidArgumentError("fp16 training needs a GPU; a CPU has bf16 or fp32")
    if precision == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False) if chosen.type == "cuda" else cpu_has_bf16_tiles()
        )
        precision = "bf16" if native else "fp32"
    return Arithmetic(chosen, precision)

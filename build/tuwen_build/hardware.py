"""What the machine at hand computes natively."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tuwen_build.encoders import Precision

__all__ = ["PrecisionChoice", "choose_precision", "cpu_has_bf16_tiles"]


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision, and why this one: a clause for people."""

    precision: Precision
    reason: str


def choose_precision() -> PrecisionChoice:
    """The fastest precision that this machine has units for and that any use may have.

    int8 is never chosen: what it costs in recall is for the user to decide.
    """
    if torch.cuda.is_available():
        name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        if capability >= (7, 0):  # tensor cores: Volta and newer
            return PrecisionChoice("fp16", f"{name} has tensor cores, and fp16 rounds eight times finer than bf16")
        return PrecisionChoice("fp32", f"{name} has no tensor cores")
    if cpu_has_bf16_tiles():
        return PrecisionChoice("bf16", "this CPU multiplies bf16 matrices natively (AMX)")
    if torch.cpu._is_avx512_bf16_supported():
        return PrecisionChoice("bf16", "this CPU multiplies bf16 vectors natively (AVX-512 BF16)")
    return PrecisionChoice("fp32", "this CPU has no bf16 arithmetic; int8 would be faster, with some loss of recall")


def cpu_has_bf16_tiles() -> bool:
    """AMX, without which bf16 training is no faster than fp32 on a CPU."""
    return bool(torch.cpu._is_amx_tile_supported())

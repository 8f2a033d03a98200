"""The precisions that this machine computes fast."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from tuwen_build.options import Precision
from tuwen_repository.int8_kernels import int8_obstacle

__all__ = [
    "PrecisionChoice",
    "bf16_speedup",
    "choose_precision",
    "cpu_has_bf16_tiles",
    "gpu_without_cuda",
    "precision_warning",
]

_WORTH_ROUNDING = 1.2
_BF16_CAPABILITY = (8, 0)  # Ampere
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_ROUNDS = 3
_ROWS, _WIDTH, _INNER = 8 * 197, 768, 3072  # the widest layer of a ViT-B/16, with eight images


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision, and a clause for the user that says why the precision was chosen."""

    precision: Precision
    reason: str


def choose_precision() -> PrecisionChoice:
    """Return the precision that is fastest on this machine and keeps the recall.

    int8 is never chosen, because it lowers the recall; users must choose it themselves.
    """
    if torch.cuda.is_available():
        name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        if capability >= (7, 0):  # tensor cores: Volta and newer
            return PrecisionChoice("fp16", f"{name} has tensor cores, and fp16 rounds eight times finer than bf16")
        return PrecisionChoice("fp32", f"{name} has no tensor cores")
    choice = _choose_for_cpu()
    if (unused := gpu_without_cuda()) is not None:
        return PrecisionChoice(choice.precision, f"{unused}, and {choice.reason}")
    return choice


def gpu_without_cuda() -> str | None:
    """Return why PyTorch cannot use this machine's NVIDIA GPU; None if it can, or if there is no GPU."""
    if torch.cuda.is_available() or not _NVIDIA_DRIVER.exists():
        return None
    why = "was built without CUDA" if torch.version.cuda is None else "finds no device that it can use"
    return f"PyTorch {torch.__version__} {why}, so this machine's NVIDIA GPU is not used"


def precision_warning(precision: Precision) -> str | None:
    """Return why a precision is a bad choice for serving on this machine's GPU; None if it is a good choice."""
    if not torch.cuda.is_available():
        return gpu_without_cuda()
    name = torch.cuda.get_device_name()
    if precision == "bf16" and torch.cuda.get_device_capability() < _BF16_CAPABILITY:
        return f"{name} has no bf16 arithmetic, which GPUs have from Ampere on; on this GPU, fp16 is faster"
    if precision == "int8":
        return f"int8 encoders run on the CPU and do not use {name}; on a GPU, use fp16 or bf16"
    return None


def _choose_for_cpu() -> PrecisionChoice:
    if not cpu_has_bf16_tiles() and not torch.cpu._is_avx512_bf16_supported():
        return PrecisionChoice("fp32", f"this CPU has no bf16 arithmetic{_int8_advice()}")
    # Support for bf16 may be slow: Intel's AVX-512 BF16 without AMX takes 1.7 times as long as fp32.
    factor = bf16_speedup()
    if factor >= _WORTH_ROUNDING:
        return PrecisionChoice("bf16", f"this CPU multiplies bf16 matrices {factor:.1f} times as fast as fp32")
    return PrecisionChoice("fp32", f"bf16 comes to {factor:.1f} times the speed of fp32 on this CPU{_int8_advice()}")


def _int8_advice() -> str:
    return "; int8 would be faster, with some loss of recall" if int8_obstacle() is None else ""


def bf16_speedup() -> float:
    """Return the speed of bf16 on this CPU, divided by the speed of fp32, for an encoder's largest matrix products.

    The measurement takes less than a second.
    """
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.inference_mode():
        for number in range(1 + _ROUNDS):  # alternate; the first round warms up
            for dtype in (torch.float32, torch.bfloat16):
                rows = torch.ones(_ROWS, _WIDTH, dtype=dtype)
                weight = torch.ones(_INNER, _WIDTH, dtype=dtype)
                start = time.perf_counter()
                torch.nn.functional.linear(rows, weight)
                if number:
                    best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]


def cpu_has_bf16_tiles() -> bool:
    """Return whether the CPU has AMX. Without it, bf16 training on a CPU is not faster than fp32."""
    return bool(torch.cpu._is_amx_tile_supported())

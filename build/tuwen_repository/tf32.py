"""float32 arithmetic on NVIDIA GPUs, without TF32.

TF32 keeps 10 of the 23 bits of a factor's fraction. PyTorch multiplies float32 matrices without TF32 by default, but
computes float32 convolutions with it, on GPUs from Ampere on. The patch embedding of an image tower is a convolution,
so its vectors would miss the bound of fp32 builds, 1e-5. TF32 does not concern fp16, bf16 and int8.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["TF32_SETTINGS", "gpu_environment"]

TF32_SETTINGS: Mapping[str, str] = {"NVIDIA_TF32_OVERRIDE": "0"}
"""Environment variables for processes that are still to be started; cuBLAS and cuDNN read them."""


def gpu_environment(precision: str) -> dict[str, str]:
    """Return the variables that a server needs so that a GPU computes the vectors that were verified."""
    return dict(TF32_SETTINGS) if precision == "fp32" else {}

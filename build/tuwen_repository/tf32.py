"""Environment variables that turn off TF32 on NVIDIA GPUs.

TF32 keeps 10 of the 23 bits of a factor's fraction. On GPUs from Ampere on, PyTorch does not use TF32 for float32
matrix products by default, but uses it for convolutions. The patch embedding of an image tower is a convolution, so its
vectors would exceed the bound of fp32 builds, 1e-5. TF32 does not affect fp16, bf16 and int8.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["TF32_SETTINGS", "gpu_environment"]

TF32_SETTINGS: Mapping[str, str] = {"NVIDIA_TF32_OVERRIDE": "0"}
"""Environment variables for new processes, which cuBLAS and cuDNN read."""


def gpu_environment(precision: str) -> dict[str, str]:
    """Return the environment variables with which a GPU computes the verified vectors."""
    return dict(TF32_SETTINGS) if precision == "fp32" else {}

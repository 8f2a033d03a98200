"""The environment variables of processes that compute with a repository: memory, threads and rounding.

Memory: glibc returns buffers of 32 MiB and more to the system as soon as they are freed. The next buffer then costs a
page fault for each 4 KiB, which takes much of the time of a batch of images. With a higher threshold (man mallopt:
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD) a process keeps up to 1 GiB.

Threads: a thread that has finished its part of a loop spins until the others have finished. libgomp's default is
300,000 rounds (its manual, GOMP_SPINCOUNT), which takes milliseconds. Other processes (Triton's frontends, the Python
models) then lack the core. Without any spinning, threads would sleep between two loops, and waking them takes longer
than the loops of a small batch.

Arithmetic: TF32 keeps 10 of the 23 bits of a factor's fraction. On GPUs from Ampere on, PyTorch does not use TF32 for
float32 matrix products by default, but uses it for convolutions. The patch embedding of an image tower is a
convolution. With TF32, image vectors would differ from the reference by more than 1e-5, the bound of fp32 builds. TF32
does not affect fp16, bf16 and int8.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping

__all__ = ["ALLOCATOR_SETTINGS", "OPENMP_SETTINGS", "TF32_SETTINGS", "gpu_environment", "keep_freed_memory"]

_KEPT = 1 << 30  # bytes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h

ALLOCATOR_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": str(_KEPT), "MALLOC_TRIM_THRESHOLD_": str(_KEPT)}
"""The environment variables with which glibc's malloc keeps freed memory, for new processes."""
OPENMP_SETTINGS = {"GOMP_SPINCOUNT": "10000"}
"""The environment variable that shortens the spinning of libgomp's threads. Other OpenMP libraries ignore it."""
TF32_SETTINGS: Mapping[str, str] = {"NVIDIA_TF32_OVERRIDE": "0"}
"""The environment variable that turns TF32 off in cuBLAS and cuDNN, for new processes."""


def keep_freed_memory() -> None:
    """Set malloc's thresholds so that this process keeps freed memory, if its C library is glibc."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            library.mallopt(parameter, _KEPT)


def gpu_environment(precision: str) -> dict[str, str]:
    """Return the environment variables with which a GPU computes the verified vectors."""
    return dict(TF32_SETTINGS) if precision == "fp32" else {}

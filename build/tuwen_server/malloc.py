"""Settings of glibc's malloc that keep freed memory for the next batch.

glibc returns buffers of 32 MiB and more to the system as soon as they are freed. The next buffer then costs a page
fault for each 4 KiB, which takes much of the time of a batch of images. With a higher threshold (man mallopt:
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD) a process keeps up to 1 GiB.
"""

from __future__ import annotations

import ctypes
import platform

__all__ = ["ALLOCATOR_SETTINGS", "keep_freed_memory"]

_KEPT = 1 << 30  # bytes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h

ALLOCATOR_SETTINGS = {"MALLOC_MMAP_THRESHOLD_": str(_KEPT), "MALLOC_TRIM_THRESHOLD_": str(_KEPT)}
"""Environment variables for new processes."""


def keep_freed_memory() -> None:
    """Apply the settings to this process, if its C library is glibc."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            library.mallopt(parameter, _KEPT)

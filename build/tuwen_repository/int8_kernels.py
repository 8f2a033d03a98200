"""Checking whether the int8 kernels of this machine's CPU are fast and exact.

Only `int8_products_are_exact` imports torch.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import numpy as np

__all__ = ["OVERRIDE", "int8_obstacle", "int8_products_are_exact"]

OVERRIDE = "TUWEN_SLOW_INT8"
"""The environment variable that allows int8 on slow CPUs if its value is 1."""

_CPU_INFO = Path("/proc/cpuinfo")
_FLAG = "avx512_vnni"
# With a limit below AVX512_CORE_VNNI, oneDNN adds pairs of products in 16 bits, which saturate.
_UNLIMITED, _EXACT = ("", "ALL", "DEFAULT"), ("AVX512_CORE_", "AVX10")
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def int8_obstacle(flags: Collection[str] | None = None, environment: Mapping[str, str] | None = None) -> str | None:
    """Return why int8 must not be used here, and what to do, as a clause; None if int8 may be used.

    torch uses oneDNN to multiply int8 matrices only if the CPU has AVX-512 VNNI. Otherwise, torch runs a scalar loop,
    which takes minutes for one image in a ViT-B/16.

    Args:
        flags: the features of the CPU. Default: the features that Linux reports; other systems do not report any.
        environment: the variables that limit oneDNN. Default: the variables of this process.
    """
    flags = _cpu_flags() if flags is None else flags
    environment = os.environ if environment is None else environment
    for name in _LIMITS:
        limit = environment.get(name, "").upper()
        if limit not in _UNLIMITED and not limit.startswith(_EXACT):
            return f"{name}={limit} selects kernels whose int8 sums saturate; unset it, or use fp32 or bf16"
    if _FLAG not in flags and environment.get(OVERRIDE) != "1":
        return (
            "this CPU lacks AVX-512 VNNI, so torch would take minutes for an image in int8; use fp32 or bf16, or "
            f"set {OVERRIDE}=1 to go on"
        )
    return None


def int8_products_are_exact() -> bool:
    """Return whether torch adds the largest products of int8 values on this CPU without saturation."""
    import torch  # noqa: PLC0415 - the server imports this module without torch

    rows, width, columns = 32, 64, 16
    signs = (127, -127)
    for left in signs:
        for right in signs:
            product = torch._int_mm(
                torch.full((rows, width), left, dtype=torch.int8), torch.full((width, columns), right, dtype=torch.int8)
            )
            if not bool((product == left * right * width).all()):
                return False
    return True


@cache
def _cpu_flags() -> frozenset[str]:
    """Return the features that Linux lists, without VNNI if the CPU does not report it.

    Linux may list VNNI for a CPU without it: an emulator such as qemu-user shows the host's /proc/cpuinfo.
    """
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, values = line.partition(":")
        if name.strip() == "flags":
            return frozenset(values.split()) - (frozenset() if _cpu_reports_vnni() else {_FLAG})
    return frozenset()


def _cpu_reports_vnni() -> bool:
    """Return whether NumPy, which queries the CPU, finds VNNI. True if this version of NumPy does not look for VNNI."""
    package = "numpy.core" if np.__version__.startswith("1.") else "numpy._core"
    features = getattr(importlib.import_module(f"{package}._multiarray_umath"), "__cpu_features__", {})
    return bool(features.get("AVX512VNNI", True))

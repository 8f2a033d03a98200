"""The names of the processor and the versions of the software, for the report of a measurement."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Set
from importlib.metadata import version
from pathlib import Path

__all__ = ["cpu_flags", "processor", "versions"]

_CPUINFO = Path("/proc/cpuinfo")


def processor() -> str:
    """Return the name of this machine's processor, such as ``AMD EPYC 7763``."""
    return ", ".join(sorted(set(_values("model name")))) or platform.processor() or platform.machine()


def cpu_flags() -> Set[str]:
    """Return the processor's features by Linux's names, such as ``amx_tile``; empty on other systems."""
    return set(next(_values("flags"), "").split())


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the version of Python and the versions of installed packages, by name."""
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}


def _values(name: str) -> Iterator[str]:
    lines = _CPUINFO.read_text(encoding="utf-8").splitlines() if _CPUINFO.is_file() else []
    return (line.split(":")[1].strip() for line in lines if line.startswith(name))

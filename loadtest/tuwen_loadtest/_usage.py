"""What a process and its children used."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psutil

__all__ = ["Usage", "usage_of"]

_MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """Of a process and all its children.

    Attributes:
        cpu_seconds: since they began.
        memory_mib: proportional: what several of them share counts once.
    """

    cpu_seconds: float
    memory_mib: float


def usage_of(pid: int) -> Usage:
    """What it has used until now."""
    root = psutil.Process(pid)
    seconds = memory = 0.0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            times = process.cpu_times()
            seconds += times.user + times.system
            memory += process.memory_full_info().pss
    return Usage(seconds, memory / _MIB)

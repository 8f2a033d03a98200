"""The resources that a process and its children used."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psutil

__all__ = ["Usage", "usage_of"]

_MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """The resources of a process and all its children.

    Attributes:
        cpu_seconds: the CPU time of the processes since their start, in seconds.
        memory_mib: the memory of the processes in MiB. Memory that several processes share counts once.
    """

    cpu_seconds: float
    memory_mib: float


def usage_of(pid: int) -> Usage:
    """Return the resources that a process and its children have used.

    Args:
        pid: the process ID.
    """
    root = psutil.Process(pid)
    seconds = memory = 0.0
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # the process has ended since it was listed
            times = process.cpu_times()
            seconds += times.user + times.system
            memory += process.memory_full_info().pss
    return Usage(seconds, memory / _MIB)

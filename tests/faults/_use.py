"""Measurements of a process's resources, and their medians early and late in a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psutil

__all__ = ["middle_and_end", "use_of"]


def use_of(pid: int | None = None) -> dict[str, float]:
    """Return the memory in MiB and the numbers of open files and threads of a process and its descendants.

    Args:
        pid: the ID of the process; None: this process, without its descendants.
    """
    own = psutil.Process(pid)
    processes = [own, *own.children(recursive=True)] if pid else [own]
    return {
        "MiB": sum(process.memory_info().rss for process in processes) / 2**20,
        "open files": sum(process.num_fds() for process in processes),
        "threads": sum(process.num_threads() for process in processes),
    }


def middle_and_end(seen: Sequence[float]) -> tuple[float, float]:
    """Return the median of the middle third of the values, and the median of the last third."""
    third = max(1, len(seen) // 3)
    middle = seen[-2 * third : -third] or seen
    return float(np.median(middle)), float(np.median(seen[-third:]))

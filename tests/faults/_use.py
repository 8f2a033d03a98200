"""The resources that processes use, and whether their use grows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psutil

__all__ = ["middle_and_end", "use_of"]


def use_of(pid: int | None = None) -> dict[str, float]:
    """Return the resources of a process and its children. Without a pid: of this process alone."""
    own = psutil.Process(pid)
    processes = [own, *own.children(recursive=True)] if pid else [own]
    return {
        "MiB": sum(process.memory_info().rss for process in processes) / 2**20,
        "open files": sum(process.num_fds() for process in processes),
        "threads": sum(process.num_threads() for process in processes),
    }


def middle_and_end(seen: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the middle third and of the last third."""
    third = max(1, len(seen) // 3)
    middle = seen[-2 * third : -third] or seen
    return float(np.median(middle)), float(np.median(seen[-third:]))

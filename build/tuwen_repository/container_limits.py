"""The cores and the memory that this process may use, on a machine or in a container.

The Python models of a repository run this module too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["core_limit", "memory_limit", "usable_cores"]

_CGROUPS = "sys/fs/cgroup"
_UNLIMITED_BYTES = 1 << 62  # version 1 writes no limit as the largest multiple of a page below 2 to the power of 63


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores in the affinity mask, or fewer if a control group limits the CPU time.

    A limit of 1.5 cores counts as 2, so that no time is left unused.

    Args:
        root: the root of the file system. Tests replace it.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity mask
        cores = os.cpu_count() or 1
    limit = core_limit(root)
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def core_limit(root: Path = Path("/")) -> float | None:
    """Return the CPU time that the control groups of this process allow, as a number of cores; None: no limit.

    Versions 1 and 2 of control groups are read. A limit of a group applies to the groups below that group.

    Args:
        root: the root of the file system. Tests replace it.
    """
    return _smallest("cpu", _cores, root)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the memory that the control groups of this process allow, in bytes; None: no limit.

    Args:
        root: the root of the file system. Tests replace it.
    """
    limit = _smallest("memory", _bytes, root)
    return None if limit is None else int(limit)


def _smallest(controller: str, limit_of: Callable[[Path], float | None], root: Path) -> float | None:
    limits = []
    for folder in _groups(controller, root):
        try:
            limit = limit_of(folder)
        except (OSError, ValueError):  # no such group or file; "max" is no number
            continue
        if limit is not None:
            limits.append(limit)
    return min(limits, default=None)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Return the folders of this process's control groups and of their parents. Some may not exist.

    A container sees its own group at the mount point, but the path in /proc may be the host's path.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / _CGROUPS / controllers
        if controllers and not mount.is_dir():
            mount = root / _CGROUPS / controller
        folder = mount / path.lstrip("/")
        yield folder
        while folder not in (mount, folder.parent):
            folder = folder.parent
            yield folder


def _cores(folder: Path) -> float | None:
    if (folder / "cpu.max").is_file():
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    else:
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
    return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None


def _bytes(folder: Path) -> float | None:
    file = folder / "memory.max"
    if not file.is_file():
        file = folder / "memory.limit_in_bytes"
    limit = int(file.read_text(encoding="utf-8"))
    return limit if limit < _UNLIMITED_BYTES else None

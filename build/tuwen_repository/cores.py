"""The processor cores that this process may use, on a machine or in a container.

The Python models of a repository run this module too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["core_limit", "usable_cores"]

_CGROUPS = "sys/fs/cgroup"


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores: those of the affinity mask, or fewer where a control group limits the time.

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
    """Return the cores' time that the control groups of this process allow, in cores; None: no limit.

    Versions 1 and 2 of control groups are read. A limit of a group applies to the groups below.

    Args:
        root: the root of the file system. Tests replace it.
    """
    limits = [limit for folder in _groups(root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Return the folders of this process's groups and of those above, which may be missing.

    A container sees its own group at the mount point, while the path in /proc may be that of the host.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / _CGROUPS / controllers
        if controllers and not mount.is_dir():
            mount = root / _CGROUPS / "cpu"
        folder = mount / path.lstrip("/")
        yield folder
        while folder not in (mount, folder.parent):
            folder = folder.parent
            yield folder


def _limit(folder: Path) -> float | None:
    """Return the limit of one group, in cores; None: no limit, or no such group."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # "max" is no number
        return None

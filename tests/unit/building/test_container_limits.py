"""The cores and the memory that a process may use, as its affinity mask and control groups 1 and 2 limit them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuwen_repository.container_limits import core_limit, memory_limit, usable_cores


def control_groups(root: Path, membership: str, **files: str) -> Path:
    """Write the files of control groups below a root folder, and return the folder.

    Args:
        root: the folder that stands for ``/``.
        membership: the text of ``/proc/self/cgroup``.
        files: the text of each file below ``/sys/fs/cgroup``, by its path with ``__`` in the place of ``/``.
    """
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(membership, encoding="utf-8")
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name.replace("__", "/")
        path = path.with_name(re.sub("^(cpu|memory)_(max|cfs|limit)", r"\1.\2", path.name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.parametrize(
    ("quota", "limit", "cores"),
    [("max 100000", None, 16), ("200000 100000", 2.0, 2), ("150000 100000", 1.5, 2), ("50000 100000", 0.5, 1)],
)
def test_version_2_limits_the_cores(tmp_path: Path, quota: str, limit: float | None, cores: int) -> None:
    root = control_groups(tmp_path, "0::/\n", cpu_max=f"{quota}\n")
    assert (core_limit(root), usable_cores(root)) == (limit, cores)


def test_a_limit_of_a_parent_group_applies_to_its_children(tmp_path: Path) -> None:
    root = control_groups(
        tmp_path, "0::/pod/server\n", pod__cpu_max="300000 100000", pod__server__cpu_max="800000 100000"
    )
    assert core_limit(root) == 3.0


@pytest.mark.parametrize(("quota", "cores"), [("-1", 16), ("400000", 4)])
def test_version_1_limits_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    """The limits of control groups version 1 are read at their mount point, which shows the container's own group.

    In a container, ``/proc/self/cgroup`` names a path of the host, which does not exist below the mount point.
    """
    membership = "12:memory:/kubepods/a\n5:cpu,cpuacct:/kubepods/a\n1:name=systemd:/kubepods/a\n"
    files = {"cpu__cpu_cfs_quota_us": f"{quota}\n", "cpu__cpu_cfs_period_us": "100000\n"}
    assert usable_cores(control_groups(tmp_path, membership, **files)) == cores


def test_the_affinity_mask_is_never_exceeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert usable_cores(control_groups(tmp_path, "0::/\n", cpu_max="800000 100000")) == 3


def test_without_control_groups_all_cores_count(tmp_path: Path) -> None:
    assert (core_limit(tmp_path), usable_cores(tmp_path)) == (None, 16)


@pytest.mark.parametrize("text", ["", "100000", "0 100000", "a b"])
def test_an_invalid_limit_file_sets_no_limit(tmp_path: Path, text: str) -> None:
    assert core_limit(control_groups(tmp_path, "0::/\n", cpu_max=text)) is None


@pytest.mark.parametrize(("text", "limit"), [("max", None), ("1073741824", 1 << 30), ("", None)])
def test_version_2_limits_the_memory(tmp_path: Path, text: str, limit: int | None) -> None:
    assert memory_limit(control_groups(tmp_path, "0::/\n", memory_max=f"{text}\n")) == limit


@pytest.mark.parametrize(("text", "limit"), [("9223372036854771712", None), ("536870912", 512 << 20)])
def test_version_1_limits_the_memory(tmp_path: Path, text: str, limit: int | None) -> None:
    membership = "9:memory:/kubepods/a\n5:cpu,cpuacct:/kubepods/a\n"
    assert memory_limit(control_groups(tmp_path, membership, memory__memory_limit_in_bytes=f"{text}\n")) == limit

"""A full disk. If the size of an output is known, the check comes before the work.

Otherwise a full disk ends the work with one clear error, and leaves no partial file.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tuwen import InvalidArgumentError
from tuwen_files import TableWriter
from tuwen_files.disk_space import DiskFullError, check_space, full_disk_named, is_disk_full, os_reason, readable_size
from tuwen_files.replacing import replacing


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes every disk report a number of free bytes."""

    def set_free(size: int) -> None:
        usage = shutil._ntuple_diskusage(1 << 40, (1 << 40) - size, size)  # type: ignore[attr-defined]
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    return set_free


class TestSpaceBeforeTheWork:
    def test_the_error_states_both_sizes_and_the_remedy(self, tmp_path: Path, free: Callable[[int], None]) -> None:
        free(1 << 20)
        with pytest.raises(DiskFullError) as caught:
            check_space(tmp_path / "new" / "folder", 3 << 30, "the repository")
        assert str(caught.value) == (
            f"not enough space in '{tmp_path}': the repository needs about 3.0 GiB, and 1.0 MiB are free; "
            "free some space, or choose an output on another disk"
        )
        check_space(tmp_path, 1 << 20, "the repository")

    def test_checks_the_disk_of_the_output(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[Path] = []
        monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or os.stat_result)
        with pytest.raises(AttributeError):
            check_space(tmp_path / "a" / "b.npz", 1, "b")
        assert asked == [tmp_path]

    def test_a_file_system_that_reports_no_size_is_accepted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil._ntuple_diskusage(0, 0, 0)  # type: ignore[attr-defined]
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        check_space(tmp_path, 1 << 60, "anything")

    def test_a_table_needs_its_new_rows_twice(self, tmp_path: Path, free: Callable[[int], None]) -> None:
        with TableWriter(tmp_path / "v.npz", "a" * 32, 512) as table:
            table.add("old", np.zeros(512, np.float32))
            free(2 * 1000 * 512 * 4)
            with pytest.raises(DiskFullError, match=r"'v\.npz' needs about 4\.\d MiB"):
                table.check_space(1000)
            free(0)
            table.check_space(0)  # without new rows, the file is not written again


class TestFullDisk:
    def test_a_full_disk_is_recognised_in_the_errors_of_libraries(self) -> None:
        assert is_disk_full(full())
        assert is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
        assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
        try:
            try:
                raise full()
            except OSError:
                raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 - as libraries do
        except RuntimeError as error:
            assert is_disk_full(error)
        assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))

    def test_two_errors_that_cause_each_other_end_the_search(self) -> None:
        first, second = RuntimeError("one"), RuntimeError("two")
        first.__cause__, second.__cause__ = second, first
        assert not is_disk_full(first)

    def test_the_reason_includes_the_remedy(self) -> None:
        assert os_reason(full()) == "the disk is full; free some space, or choose an output on another disk"
        assert os_reason(OSError(errno.EACCES, "Permission denied")) == "Permission denied"

    def test_the_error_names_the_output_that_a_library_could_not_write(self, tmp_path: Path) -> None:
        with (
            pytest.raises(DiskFullError, match="cannot write '.*model': the disk is full"),
            full_disk_named(tmp_path / "model"),
        ):
            raise RuntimeError("No space left on device")
        with pytest.raises(RuntimeError, match="other"), full_disk_named(tmp_path):
            raise RuntimeError("other")

    def test_an_earlier_file_stays_and_no_scratch_file_remains(self, tmp_path: Path) -> None:
        (tmp_path / "report").write_text("earlier", encoding="utf-8")

        def write() -> None:
            with replacing(tmp_path / "report") as scratch:
                scratch.write_text("half", encoding="utf-8")
                raise full()

        with pytest.raises(InvalidArgumentError, match="report': the disk is full; free some space"):
            write()
        assert [path.read_text("utf-8") for path in tmp_path.iterdir()] == ["earlier"]

    def test_a_table_leaves_no_empty_folder_of_parts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise full()

        monkeypatch.setattr(np, "savez", fail)
        with (
            pytest.raises(InvalidArgumentError, match="the disk is full"),
            TableWriter(tmp_path / "v.npz", "a" * 32, 4) as table,
        ):
            table.add("one", np.zeros(4, np.float32))
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "text"), [(0, "0 KiB"), (2048, "2 KiB"), (3 << 19, "1.5 MiB"), (5 << 29, "2.5 GiB")])
def test_sizes_are_shown_with_binary_units(size: int, text: str) -> None:
    assert readable_size(size) == text

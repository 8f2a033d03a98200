"""Files that are replaced completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuwen import InvalidArgumentError
from tuwen_files.replacing import replacing


@pytest.mark.parametrize("path", ["", ".", "..", "/", "folder/.."])
def test_a_path_that_names_no_file_is_refused_before_the_block_runs(path: str) -> None:
    refused = pytest.raises(InvalidArgumentError, match="expected the path of a file to write, got the folder")
    with refused, replacing(Path(path)):
        pytest.fail("the block must not run")


def test_a_folder_at_the_path_of_a_file_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    refused = pytest.raises(InvalidArgumentError, match=r"cannot write '.*report'")
    with refused, replacing(tmp_path / "report") as scratch:
        scratch.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_failed_block_leaves_the_earlier_file(tmp_path: Path) -> None:
    output = tmp_path / "report"
    output.write_text("earlier")
    failed = pytest.raises(ZeroDivisionError)
    with failed, replacing(output) as scratch:
        scratch.write_text("new")
        raise ZeroDivisionError
    assert (output.read_text(), [path.name for path in tmp_path.iterdir()]) == ("earlier", ["report"])

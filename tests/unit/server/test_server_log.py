"""The log of tritonserver: kept whatever becomes of its file."""

from __future__ import annotations

import io
from pathlib import Path

from tuwen_build.server._log import LogFollower


def test_every_line_goes_to_the_file_and_to_whoever_asked(tmp_path: Path) -> None:
    seen: list[str] = []
    LogFollower(io.StringIO("one\ntwo\n"), tmp_path / "log", seen.append).close()
    assert seen == ["one", "two"]
    assert (tmp_path / "log").read_text(encoding="utf-8") == "one\ntwo\n"


def test_a_full_disk_costs_lines_of_the_file_and_nothing_else() -> None:
    """Were the reading to end there, tritonserver would stand still as soon as its pipe is full."""
    seen: list[str] = []
    follower = LogFollower(io.StringIO("one\ntwo\n"), Path("/dev/full"), seen.append)
    follower.close()
    assert seen == ["one", "error: /dev/full cannot be written, and lacks lines from now on", "two"]
    assert "lacks lines" in follower.telling_lines()


def test_a_file_that_was_rotated_away_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "log"

    def rotate(line: str) -> None:
        if line == "two":
            file.rename(tmp_path / "log.1")

    LogFollower(io.StringIO("one\ntwo\nthree\n"), file, rotate).close()
    assert (tmp_path / "log.1").read_text(encoding="utf-8") == "one\n"
    assert file.read_text(encoding="utf-8") == "two\nthree\n"

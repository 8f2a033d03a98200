"""tritonserver's output is read to its end, even if the log file cannot be written."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tuwen_server import is_problem
from tuwen_server._log import LogFollower


def test_every_line_goes_to_the_file_and_to_the_callback(tmp_path: Path) -> None:
    seen: list[str] = []
    LogFollower(io.StringIO("one\ntwo\n"), tmp_path / "log", seen.append).close()
    assert seen == ["one", "two"]
    assert (tmp_path / "log").read_text(encoding="utf-8") == "one\ntwo\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_full_disk_only_loses_lines_of_the_file() -> None:
    """If the log file can no longer be written, the server's output is still read.

    Otherwise, tritonserver would block for ever on a full pipe.
    """
    seen: list[str] = []
    follower = LogFollower(io.StringIO("one\ntwo\n"), Path("/dev/full"), seen.append)
    follower.close()
    assert seen == ["one", "error: cannot write /dev/full; it may miss lines from now on", "two"]
    assert "may miss lines" in follower.telling_lines()


def test_a_failing_callback_only_loses_its_own_lines(tmp_path: Path) -> None:
    seen: list[str] = []

    def write_to_a_closed_pipe(line: str) -> None:
        seen.append(line)
        raise BrokenPipeError

    follower = LogFollower(io.StringIO("one\ntwo\nthree\n"), tmp_path / "log", write_to_a_closed_pipe)
    follower.close()
    assert seen == ["one", "two", "three"]
    lost = "error: the log callback failed; it may miss lines from now on"
    assert sorted((tmp_path / "log").read_text(encoding="utf-8").splitlines()) == sorted(["one", lost, "two", "three"])
    assert "may miss lines" in follower.telling_lines()


def test_a_line_of_our_own_goes_to_the_file_and_to_the_callback(tmp_path: Path) -> None:
    seen: list[str] = []
    follower = LogFollower(io.StringIO(""), tmp_path / "log", seen.append)
    follower.close()
    follower.add("error: cannot remove it")
    assert seen == ["error: cannot remove it"]
    assert (tmp_path / "log").read_text(encoding="utf-8") == "error: cannot remove it\n"


def test_a_file_that_was_rotated_away_is_made_anew(tmp_path: Path) -> None:
    file = tmp_path / "log"

    def rotate(line: str) -> None:
        if line == "two":
            file.rename(tmp_path / "log.1")

    LogFollower(io.StringIO("one\ntwo\nthree\n"), file, rotate).close()
    assert (tmp_path / "log.1").read_text(encoding="utf-8") == "one\n"
    assert file.read_text(encoding="utf-8") == "two\nthree\n"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('E0101 01:02:03.000 17 model.cc:1] "failed to load"', True),
        ("error: creating server: Internal", True),
        ("Signal (11) received.", True),
        ("Signal (15) received.", False),  # SIGTERM, which is how we stop it
        ("I0101 01:02:03.000 17 server.cc:1] started", False),
        ("E0101 01:02:03.000 17 cuda.cc:1] CudaDriverHelper has not been initialized", False),
    ],
)
def test_errors_are_problems_except_those_of_a_machine_without_a_gpu(line: str, problem: bool) -> None:
    assert is_problem(line) == problem


def test_shows_the_warnings_of_our_backend_but_not_those_of_tritonserver() -> None:
    ours = 'W1128 07:19:53.434903 11721 gpu.py:50] "tuwen: this machine has a GPU, but PyTorch cannot use it"'
    theirs = "W1128 07:19:52.101010 11721 metrics.cc:798] Unable to get power limit for GPU 0."
    assert is_problem(ours)
    assert not is_problem(theirs)


def test_counts_the_models_that_were_loaded_or_unloaded() -> None:
    lines = (
        "I1128 17:34:43.743833 19156 model_lifecycle.cc:839] \"successfully loaded 'b16_text_encoder'\"\n"
        "I1128 17:34:44.239571 19156 model_lifecycle.cc:624] \"successfully unloaded 'shop_text_embedding'\"\n"
        'I1128 17:34:45.000000 19156 model_lifecycle.cc:472] "loading: b16_text_encoder:1"\n'
    )
    follower = LogFollower(io.StringIO(lines), None, None)
    follower.close()
    assert follower.changes == 2

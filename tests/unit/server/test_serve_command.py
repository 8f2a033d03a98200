"""`tuwen serve` as a process of its own, with a fake tritonserver: signals, exit codes, and messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest

from tests.support.command import TUWEN, started, wait_until
from tests.support.stand_in import StandIn, group_members, segments

FREE_PORTS = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")


def serve(repository: Path, *options: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start `tuwen serve` on free ports."""
    command = [TUWEN, "serve", str(repository), *FREE_PORTS, "--json", *options]
    return started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_until(stream: IO[str] | None, words: str) -> None:
    """Read up to the first line with these words. The test fails if the stream ends before such a line."""
    assert stream is not None
    lines = []
    for line in stream:
        if words in line:
            return
        lines.append(line)
    pytest.fail(f"{words!r} was not said: {lines}")


def left_behind(stand_in: StandIn) -> list[object]:
    """Return the remaining processes and segments of all servers that the test started."""
    processes = [member for pid in stand_in.pids() for member in group_members(pid)]
    return [*processes, *(name for arguments in stand_in.starts() for name in segments(arguments))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_server_cleanly(stand_in: StandIn, repository: Path, number: signal.Signals) -> None:
    stand_in.behave(segments=1)
    with serve(repository, "--", "--log-verbose=1") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == stand_in.pids()[0]
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors.splitlines() == [
        f"loading {repository}",
        "stopping: letting requests in flight finish",
        "stopped",
    ]
    assert stand_in.events() == ["started", "SIGTERM", "ended"]
    assert stand_in.starts()[0][-1] == "--log-verbose=1"
    assert left_behind(stand_in) == []


@pytest.mark.parametrize("phase", ["loading", "serving", "stopping"])
def test_a_killed_command_leaves_nothing_behind(
    stand_in: StandIn, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    stand_in.behave(segments=1, ready=phase != "loading", ignores_sigterm=True)
    with serve(repository, "--verbose") as process:
        read_until(process.stderr, "loading: text_encoder")
        wait_until(lambda: [segments(arguments) for arguments in stand_in.starts()] != [[]], running=process)
        if phase != "loading":
            assert process.stdout is not None
            process.stdout.readline()
        if phase == "stopping":
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: "SIGTERM" in stand_in.events(), running=process)
        process.kill()
        wait_until(lambda: not left_behind(stand_in) and not list(temporary.iterdir()))


def test_a_hangup_that_is_ignored_stays_ignored(stand_in: StandIn, repository: Path) -> None:
    """`nohup tuwen serve` keeps running when its terminal closes."""
    with started(
        ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh", TUWEN, "serve", str(repository), *FREE_PORTS, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert stand_in.events() == ["started", "SIGTERM", "ended"]


def test_a_reader_of_the_log_that_goes_away_does_not_stop_the_server(stand_in: StandIn, repository: Path) -> None:
    stand_in.behave(flood=5_000)
    with serve(repository, "--verbose") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        assert json.loads(process.stdout.readline())["ready"]
        process.kill()


def test_a_second_signal_ends_the_server_at_once(stand_in: StandIn, repository: Path) -> None:
    stand_in.behave(segments=1, ignores_sigterm=True)
    with serve(repository, "--drain-timeout", "3600") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "SIGTERM" in stand_in.events(), running=process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert stand_in.events() == ["started", "SIGTERM"]
    assert left_behind(stand_in) == []


def test_a_signal_stops_a_server_that_still_loads(stand_in: StandIn, repository: Path) -> None:
    stand_in.behave(segments=1, ready=False)
    with serve(repository, "--verbose") as process:
        read_until(process.stderr, "loading: text_encoder")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert left_behind(stand_in) == []


def test_a_server_that_dies_again_is_given_up(stand_in: StandIn, repository: Path) -> None:
    stand_in.behave(segments=1)
    with serve(repository, "--restarts", "1") as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(stand_in.pids()[0], signal.SIGKILL)
        read_until(process.stderr, "tritonserver ended by itself with code -9")
        read_until(process.stderr, "ready again")
        os.kill(stand_in.pids()[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "tritonserver ended by itself with code -9" in errors
    assert "1 restarts within ten minutes did not help" in errors
    assert left_behind(stand_in) == []


def test_starts_with_the_variables_of_a_client_in_the_environment(
    stand_in: StandIn, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUWEN_KEY", "client.key")  # a file of TLS, which no server takes for its secret
    monkeypatch.setenv("TUWEN_HEADERS", "no colon")
    monkeypatch.setenv("TUWEN_SERVER_KEY", "s3cret-of-the-server")
    with serve(repository) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["pid"] == stand_in.pids()[0]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
    [restricted] = [one for one in stand_in.starts()[0] if one.startswith("--grpc-restricted-protocol")]
    assert restricted.endswith("=s3cret-of-the-server")

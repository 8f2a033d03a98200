"""Fixtures for tests of the supervision: a fake tritonserver, which starts in a fraction of a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.stand_in import HurriedClock, StandIn, write_repository
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server._installation import Installation


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The fake tritonserver, which `EmbeddedServer` and `tuwen serve` start in place of the real one."""
    if sys.platform != "linux":
        pytest.skip("the embedded server runs on Linux only")
    monkeypatch.setenv("TUWEN_SERVER_FOLDER", str(tmp_path / "installed"))
    monkeypatch.delenv("TUWEN_PYTORCH_BACKEND", raising=False)
    return StandIn(Installation.default(), tmp_path / "stand-in")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder that looks like a built repository. The test may change the folder."""
    return write_repository(tmp_path / "repository")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, which only this test uses."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def clock() -> HurriedClock:
    """The clock of the servers that `make_server` makes."""
    return HurriedClock()


@pytest.fixture
def make_server(
    stand_in: StandIn,  # noqa: ARG001 - is installed, so that the servers find it
    repository: Path,
    clock: HurriedClock,
) -> Iterator[Callable[..., EmbeddedServer]]:
    """A function that returns a server with the given options on the fake tritonserver.

    The server is stopped after the test.
    """
    made: list[EmbeddedServer] = []

    def make(*, on_log_line: Callable[[str], None] | None = None, **options: Any) -> EmbeddedServer:
        ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
        patient = {"ready_timeout": 1200, "drain_timeout": 600}  # half a minute and more of real time by this clock
        chosen = ServerOptions(**{**ports, **patient, **options})
        made.append(EmbeddedServer(repository, chosen, on_log_line=on_log_line, clock=clock))
        return made[-1]

    yield make
    clock.on_pause = None
    for server in made:
        server.stop()

"""The command `tritonserver` starts the embedded server with Triton's arguments, and warns against production use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.stand_in import StandIn
from tuwen_server import tritonserver


class ReplacedError(Exception):
    """The error with which the fake `os.execve` ends the call, so that the process of the test goes on."""


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace `os.execve` by a fake that raises `ReplacedError`, and return the list of its arguments."""
    called: list[Any] = []

    def execve(*arguments: Any) -> None:
        called.extend(arguments)
        raise ReplacedError

    monkeypatch.setattr(os, "execve", execve)
    return called


@pytest.mark.usefixtures("scratch")
def test_adds_the_backends_and_keeps_the_arguments(
    stand_in: StandIn, replaced: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ReplacedError):
        tritonserver.main(["--model-repository=/models", "--log-verbose=1"])
    binary, arguments, environment = replaced
    assert binary == stand_in.installation.tritonserver / "bin" / "tritonserver"
    assert arguments[:3] == [str(binary), "--model-repository=/models", "--log-verbose=1"]
    backends = Path(arguments[3].removeprefix("--backend-directory="))
    assert (backends / "pytorch" / "model.py").is_file()
    assert environment["PATH"].startswith(f"{backends}/")
    assert "for development: it has known vulnerabilities" in capsys.readouterr().err


@pytest.mark.usefixtures("scratch", "stand_in")
def test_keeps_a_folder_of_backends_that_was_chosen(replaced: list[Any]) -> None:
    with pytest.raises(ReplacedError):
        tritonserver.main(["--backend-directory=/mine"])
    assert replaced[1][1:] == ["--backend-directory=/mine"]


def test_names_the_missing_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUWEN_SERVER_FOLDER", str(tmp_path / "nothing"))
    with pytest.raises(SystemExit, match="cannot start tritonserver: the embedded server is not installed"):
        tritonserver.main([])

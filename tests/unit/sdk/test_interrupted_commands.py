"""SIGTERM and SIGHUP interrupt every command as Ctrl-C does, so that the command cleans up before it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.command import tuwen


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither signal")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_interrupts_a_command_that_runs_no_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: str
) -> None:
    draft = tmp_path / "draft"

    def connect(*_: object, **__: object) -> None:
        draft.touch()
        try:
            os.kill(os.getpid(), getattr(signal, number))
            signal.pause()
        finally:
            draft.unlink()

    monkeypatch.setattr("tuwen_cli.status.connect", connect)
    assert tuwen("status", code=130).stdout == ""
    assert not draft.exists()

"""Tests of the command `tuwen probe` on the real server, while a model's process hangs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.command import tuwen
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_server import ServerOptions


def stub_of(pid: int, model: str) -> int:
    """Return the ID of the process in which the server runs a Python model."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if f"{model}_" in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    raise LookupError(f"the server {pid} has no process for the model {model}")


@pytest.mark.provokes_trouble
def test_finds_a_model_that_hangs_while_the_server_says_that_it_is_ready(repository: Path) -> None:
    with RecordedServer(repository, ServerOptions.on_free_ports()) as server, Client(server.grpc_url) as clip:
        assert "computes" in tuwen("probe", server.grpc_url, "--timeout", "30").stdout
        stopped = []
        try:
            for model in ("image_preprocessing", "text_encoder"):  # the probe embeds a text before an image
                stopped.append(stub_of(server.pid, model))
                os.kill(stopped[-1], signal.SIGSTOP)
                assert clip.is_ready()
                failed = tuwen("probe", server.grpc_url, "--timeout", "4", code=1)
                assert "computed nothing" in failed.stderr
                assert model in failed.stderr.rpartition("), and ")[2].partition("computed nothing")[0]
        finally:
            for stub in stopped:
                os.kill(stub, signal.SIGCONT)

"""If a server stops responding, the load test counts the requests that were unfinished at the end of the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.command import started
from tests.support.paths import ROOT
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_loadtest._samples import read_samples
from tuwen_repository.samples import sample
from tuwen_server import ServerOptions

pytestmark = pytest.mark.alone


def test_unfinished_requests_at_the_end_of_a_run_are_counted(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "samples.npz"
    load = ["--arrivals", "poisson", "-u", "20", "-r", "20", "-t", "6s", "--stop-timeout", "2", "--deadline", "60"]
    options = ["--images", str(sample("cat.jpg").parent), "--samples", str(file), "--slo", "p50<2s", "--warmup", "0"]
    with RecordedServer(repository, ServerOptions.on_free_ports()) as server:
        with Client(server.grpc_url) as clip:
            clip.embed_texts(["猫"])
        os.kill(server.pid, signal.SIGSTOP)
        try:
            locustfile = str(ROOT / "loadtest" / "locustfile.py")
            command = [sys.executable, "-m", "locust", "-f", locustfile, "--headless", "--only-summary"]
            address = ["--host", server.grpc_url]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            with started([*command, *address, *load, *options, "TextSearch"], **pipes) as locust:
                output, _ = locust.communicate(timeout=90)
        finally:
            os.kill(server.pid, signal.SIGCONT)
    assert locust.returncode == 1, output
    assert "MISSED p50<2s" in output
    outcomes = Counter(one.outcome for one in read_samples(file))
    assert outcomes["answered"] == 0
    assert outcomes["unfinished"] > 0
    assert outcomes.total() > 50

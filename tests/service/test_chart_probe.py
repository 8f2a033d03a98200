"""Tests of the chart's pod probe on the real server, while a model hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.support.paths import ROOT
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_server import EmbeddedServer, ServerOptions

PROBE = ROOT / "docker" / "kubernetes" / "files" / "probe.py"
KEY = "the-key-of-the-test"


def probed(server: EmbeddedServer, seconds: float, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(PROBE), str(seconds), "0", server.http_url]
    environment = {**os.environ, "RESTRICTED_KEY": KEY, "TMPDIR": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.provokes_trouble
@pytest.mark.parametrize("model", ["image_preprocessing", "vision_encoder"])
def test_a_model_that_hangs_is_named_although_the_server_is_ready(repository: Path, tmp_path: Path, model: str) -> None:
    with RecordedServer(repository, replace(ServerOptions.on_free_ports(), key=KEY)) as server:
        done = probed(server, 60, tmp_path)
        assert (done.returncode, done.stdout) == (0, "every model is well\n")
        with Client(server.grpc_url) as clip:
            assert not [name for name, one in (clip.statistics() or {}).items() if one.failures]
        processes = psutil.Process(server.pid).children(recursive=True)
        [stub] = [process.pid for process in processes if f"{model}_0_0" in process.cmdline()]
        os.kill(stub, signal.SIGSTOP)
        try:
            with urllib.request.urlopen(f"{server.http_url}/v2/health/ready", timeout=30) as response:
                assert response.status == 200
            done = probed(server, 5, tmp_path)
        finally:
            os.kill(stub, signal.SIGCONT)
        assert done.returncode == 1
        assert done.stdout.startswith(f"{model}: "), done.stdout

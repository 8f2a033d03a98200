"""Tests of the embedded server with the real tritonserver binary.

`tests/unit/server` tests the supervision with a fake binary.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.support import metrics
from tests.support.command import TUWEN, started, wait_until
from tests.support.servers import RecordedServer
from tests.support.stand_in import group_members, segments
from tuwen import Client, RetryPolicy, ServerUnavailableError
from tuwen_repository.environment import ALLOCATOR_SETTINGS, OPENMP_SETTINGS, TF32_SETTINGS
from tuwen_repository.samples import sample
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server.errors import ServerStartError

ON_FREE_PORTS = ServerOptions.on_free_ports()
SETTINGS = ALLOCATOR_SETTINGS | OPENMP_SETTINGS | TF32_SETTINGS


def test_serves_on_loopback_and_leaves_nothing_behind(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "model.py").write_text("raise RuntimeError('code of the user')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "experiment")  # the Python models must not import from the current folder
    lines: list[str] = []
    options = replace(ON_FREE_PORTS, log_file=tmp_path / "server.log")
    with RecordedServer(repository, options, on_log_line=lines.append) as server:
        pid, arguments = server.pid, psutil.Process(server.pid).cmdline()
        members = group_members(pid)
        assert len(members) == 5  # tritonserver and the processes of four models
        assert len(segments(arguments)) >= 4
        with Client(server.grpc_url) as clip:
            assert clip.embed_texts(["猫"]).shape == (1, 64)
        for member in members:
            environment = Path(f"/proc/{member}/environ").read_text().split("\0")
            assert {f"{name}={value}" for name, value in SETTINGS.items()} <= set(environment)
        listening = [
            connection.laddr.ip
            for member in members
            for connection in psutil.Process(member).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 3
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert group_members(pid) == []
    assert segments(arguments) == []
    assert list(scratch.iterdir()) == []
    assert any("Started GRPCInferenceService" in line for line in lines)
    assert (tmp_path / "server.log").read_text(encoding="utf-8").splitlines() == lines


def test_requests_in_flight_finish_when_the_server_stops(repository: Path) -> None:
    """Requests that were sent before the server stops are answered, and later requests are refused.

    Each of 8 threads sends one request after another until a request is refused.
    """
    threads = 8
    photograph = sample("coffee.jpg").read_bytes()
    first_answers = threading.Semaphore(0)
    stopping = threading.Event()
    finished_while_stopping: list[int] = []
    turned_away: list[ServerUnavailableError] = []

    def send_until_turned_away(clip: Client, number: int) -> None:
        while True:
            sent_before = not stopping.is_set()
            try:
                clip.embed_images([photograph] * 4)
            except ServerUnavailableError as error:
                turned_away.append(error)
                return
            first_answers.release()
            if sent_before and stopping.is_set():
                finished_while_stopping.append(number)

    with (
        RecordedServer(repository, ON_FREE_PORTS) as server,
        Client(server.grpc_url, timeout=60, retries=RetryPolicy(attempts=1)) as clip,
        ThreadPoolExecutor(threads) as pool,
    ):
        done = [pool.submit(send_until_turned_away, clip, number) for number in range(threads)]
        for _ in range(2 * threads):
            assert first_answers.acquire(timeout=60)
        stopping.set()
        server.stop()
        for future in done:
            future.result(timeout=60)
    assert finished_while_stopping
    assert len(turned_away) == threads
    # Triton's error if it stops a model that still has unanswered requests
    assert not [error for error in turned_away if "stopped accepting" in str(error)]


@pytest.mark.our_backend
@pytest.mark.provokes_trouble
def test_serve_restarts_a_dead_model_and_stops_at_sigterm(repository: Path) -> None:
    """`tuwen serve` restarts the server after a model's process died, and exits with code 0 at SIGTERM.

    Triton 2.51 still reports ready when a model's Python process has died, although all requests to the model fail.
    """
    command = [TUWEN, "serve", str(repository), "--json"]
    command += ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]
    said: list[str] = []

    def follow(process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        said.extend(process.stderr)

    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        reader = threading.Thread(target=follow, args=(process,))
        reader.start()
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        first = psutil.Process(ready["pid"])
        arguments = [first.cmdline()]
        with Client(ready["grpc"], timeout=60, retries=RetryPolicy(attempts=12), remembered_texts=0) as clip:
            expected = clip.embed_texts(["一只猫"])
            [stub] = [child for child in first.children() if "text_encoder_0_0" in child.cmdline()]
            stub.kill()
            wait_until(lambda: any("ready again" in line for line in said), running=process)
            np.testing.assert_allclose(clip.embed_texts(["一只猫"]), expected, atol=1e-5)
        [second] = [child for child in psutil.Process(process.pid).children() if child.name() == "tritonserver"]
        arguments.append(second.cmdline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        reader.join()
    assert said[0] == f"loading {repository}\n"
    assert any("the Python process of text_encoder died" in line for line in said)
    assert said[-2:] == ["stopping: letting requests in flight finish\n", "stopped\n"]
    assert group_members(first.pid) == group_members(second.pid) == []
    assert [segments(one) for one in arguments] == [[], []]


def test_a_broken_model_shows_only_the_relevant_log_lines(repository: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(repository, tmp_path / "broken")
    (broken / "vision_encoder" / "1" / "model.pt").write_bytes(b"not TorchScript")
    unchecked = replace(ON_FREE_PORTS, check_files=False)
    with pytest.raises(ServerStartError) as caught, RecordedServer(broken, unchecked):
        pass
    message = str(caught.value)
    assert "failed to load 'vision_encoder'" in message
    assert "PytorchStreamReader" in message
    assert len(message.splitlines()) < 15


def test_the_python_models_count_refused_and_truncated_items(server: EmbeddedServer, client: Client) -> None:
    before = metrics.text(server.metrics_url)
    client.embed_images([sample("cat.jpg")] * 3)
    with pytest.raises(ValueError, match="refused"):
        client.embed_images([b"", b"x"])
    with pytest.warns(UserWarning, match="are longer than"):
        client.embed_texts(["猫" * 100, "狗" * 100])
    after = metrics.text(server.metrics_url)

    def moved(sample_name: str) -> float:
        pattern = re.compile(rf"^{re.escape(sample_name)} (\S+)$", re.MULTILINE)
        values = [float(match[1]) if (match := pattern.search(page)) else 0.0 for page in (before, after)]
        return values[1] - values[0]

    assert moved("tuwen_image_decode_seconds_count") == 5
    assert moved("tuwen_image_decode_seconds_sum") > 0
    assert moved('tuwen_image_decode_failures_total{reason="empty"}') == 1
    assert moved('tuwen_image_decode_failures_total{reason="unsupported_format"}') == 1
    assert moved("tuwen_texts_truncated_total") == 2

"""`tuwen probe` passes a server that computes, however busy it is, and fails one that hangs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen_cli import health_probe
from tuwen_cli.health_probe import PROBES, NotAnsweredError, probe


class ScriptedWire:
    """A server whose models compute, wait in a queue, or hang.

    Args:
        refused: ensembles that give no answer.
        idle: models that compute nothing meanwhile.
        ready: whether the server says that it is ready.
    """

    def __init__(self, *, refused: tuple[str, ...] = (), idle: tuple[str, ...] = (), ready: bool = True) -> None:
        self.refused, self.idle, self.ready = refused, idle, ready
        self.asked: list[str] = []
        self.looks = 0

    def check_ready(self, timeout: float) -> None:
        if not self.ready:
            raise NotAnsweredError("the server is not ready")

    def infer(self, model: str, input_name: str, item: bytes, timeout: float) -> None:
        assert timeout > 0
        assert item
        self.asked.append(f"{model} {input_name}")
        if model in self.refused:
            raise NotAnsweredError("no answer within 2.0 s")

    def executions(self, timeout: float) -> dict[str, int]:
        self.looks += 1
        models = [model for _, _, steps in PROBES.values() for model in steps]
        named = [*models, *(f"b16_{model}" for model in models)]
        return {model: 7 if model in self.idle else self.looks for model in named}


def test_asks_for_a_text_and_an_image_of_each_model() -> None:
    wire = ScriptedWire()
    probe(wire, models=("", "b16"))
    assert wire.asked == [
        "text_embedding text",
        "image_embedding image",
        "b16_text_embedding text",
        "b16_image_embedding image",
    ]


def test_a_model_that_computes_nothing_fails_the_probe() -> None:
    wire = ScriptedWire(refused=("image_embedding",), idle=("vision_encoder",))
    with pytest.raises(NotAnsweredError, match="nothing was computed by vision_encoder"):
        probe(wire)


def test_a_busy_server_passes() -> None:
    """The probe's own requests wait too long, but each model computed batches of others meanwhile."""
    probe(ScriptedWire(refused=("image_embedding", "text_embedding")))


def test_a_server_that_does_not_tell_its_counters_fails_without_an_answer() -> None:
    class Silent(ScriptedWire):
        def executions(self, timeout: float) -> dict[str, int]:
            return {}

    with pytest.raises(NotAnsweredError, match="text_tokenization and text_encoder"):
        probe(Silent(refused=("text_embedding",)))


def test_a_server_that_is_not_ready_is_not_asked() -> None:
    wire = ScriptedWire(ready=False)
    with pytest.raises(NotAnsweredError, match="not ready"):
        probe(wire)
    assert wire.asked == []


class HttpServer(ThreadingHTTPServer):
    """Triton's HTTP port as far as the probe uses it. A model in `hung` gives no answer until the end."""

    def __init__(self, hung: tuple[str, ...] = ()) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hung, self.end, self.items, self.keys = hung, threading.Event(), list[bytes](), list[str]()


class Handler(BaseHTTPRequestHandler):
    server: HttpServer

    def do_GET(self) -> None:
        if self.path == "/v2/health/ready":
            self._answer(b"")
        else:
            self._answer(json.dumps({"model_stats": [{"name": "vision_encoder", "execution_count": 3}]}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        head = int(self.headers["inference-header-content-length"])
        self.server.keys.append(self.headers.get("tuwen", ""))
        size = int.from_bytes(body[head : head + 4], "little")
        assert json.loads(body[:head])["inputs"][0]["parameters"]["binary_data_size"] == size + 4
        self.server.items.append(body[head + 4 :])
        if self.path.split("/")[3] in self.server.hung:
            self.server.end.wait(30)
            return
        self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def http_server(*hung: str) -> Iterator[HttpServer]:
    with HttpServer(hung) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.end.set()
            server.shutdown()
            thread.join()


def run_script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the module as the pods do: by its path, isolated from tuwen and every library."""
    command = [sys.executable, "-I", "-S", str(Path(health_probe.__file__)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_the_script_needs_the_standard_library_alone() -> None:
    with http_server() as server:
        passed = run_script(f"http://127.0.0.1:{server.server_port}", RESTRICTED_KEY="the-key-of-the-server")
    assert (passed.returncode, passed.stderr) == (0, "")
    assert server.items == [item for _, item, _ in PROBES.values()]
    assert server.keys == ["the-key-of-the-server"] * 2


def test_the_script_fails_on_a_model_that_hangs() -> None:
    with http_server("image_embedding") as server:
        failed = run_script(f"http://127.0.0.1:{server.server_port}", "--timeout", "0.5")
    assert failed.returncode == 1
    assert "image_embedding gave no embedding (/v2/models/image_embedding/infer: no answer within" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_command_speaks_grpc_and_http() -> None:
    with GrpcServer() as server:
        assert tuwen("probe", server.url).stdout == f"{server.url} computes\n"
        assert len(server.calls) == 2
    with http_server() as web:
        assert "computes" in tuwen("probe", f"http://127.0.0.1:{web.server_port}").stdout


def test_the_command_fails_in_one_line_without_a_server() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{unused.getsockname()[1]}"
        for address in (url, f"http://{url}"):
            failed = tuwen("probe", address, "--timeout", "0.5", code=1)
            assert f"{address} does not compute: " in failed.stderr
            assert len(failed.stderr.splitlines()) == 1


def test_the_command_fails_on_a_hanging_model() -> None:
    hung = threading.Event()
    with GrpcServer(before_answer=lambda: hung.wait(30)) as server:
        failed = tuwen("probe", server.url, "--timeout", "0.4", code=1)
        hung.set()
    assert "text_embedding gave no embedding (no answer within" in failed.stderr

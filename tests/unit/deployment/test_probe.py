"""The probe of the chart's pods, on a server that answers, hangs, fails or is busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

PROBE = ROOT / "docker" / "kubernetes" / "files" / "probe.py"
KEY = "the-key-of-the-test"
INPUTS = {
    "image_preprocessing": [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}],
    "text_encoder": [
        {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "attention_mask", "datatype": "INT64", "shape": [-1, 52]},
    ],
    "vision_encoder": [{"name": "pixel_values", "datatype": "UINT8", "shape": [-1, 3, 8, 8]}],
    "image_embedding": [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}],
}


class Triton(ThreadingHTTPServer):
    """A fake tritonserver with the endpoints that the probe uses.

    Attributes:
        ready: whether the server reports that it is ready.
        answers: the outcome of a request to each model: `computes`, `hangs` or `fails`.
        bodies: the computed requests by model, each as the inputs in the header and the bytes after the header.
        keys: the keys that the requests carried.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ready = True
        self.answers = dict.fromkeys(INPUTS, "computes")
        self.bodies: dict[str, tuple[list[dict[str, Any]], bytes]] = {}
        self.keys: set[str | None] = set()
        self.successes = dict.fromkeys(INPUTS, 0)
        self.over = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Triton

    def log_message(self, *_: object) -> None:
        """Write no log of the requests."""

    def do_GET(self) -> None:
        self.server.keys.add(self.headers["tuwen"])
        parts = self.path.split("/")[2:]
        if parts == ["health", "ready"]:
            self._reply(200 if self.server.ready else 503, b"")
        elif parts[-1] == "stats":
            count = self.server.successes[parts[1]]
            self._reply(200, {"model_stats": [{"inference_stats": {"success": {"count": count}}}]})
        else:
            platform = "ensemble" if parts[1].endswith("_embedding") else ""
            self._reply(200, {"name": parts[1], "platform": platform, "inputs": INPUTS[parts[1]]})

    def do_POST(self) -> None:
        self.server.keys.add(self.headers["tuwen"])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = self.path.split("/")[2:]
        if parts == ["repository", "index"]:
            self._reply(200, [{"name": name, "version": "1", "state": "READY"} for name in INPUTS])
            return
        answer = self.server.answers[parts[1]]
        if answer == "fails":
            self._reply(500, {"error": "Stub process is not healthy."})
        elif answer == "computes":
            end = int(self.headers["Inference-Header-Content-Length"])
            self.server.bodies[parts[1]] = json.loads(body[:end])["inputs"], body[end:]
            self.server.successes[parts[1]] += 1
            self._reply(200, b"")
        else:
            self.server.over.wait(30)

    def _reply(self, code: int, content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def triton() -> Iterator[Triton]:
    with Triton() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the probe's file, which records when each model stopped answering."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / "tuwen-probe.json"


def probed(triton: Triton, seconds: float = 20.0, patience: float = 0.0) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{triton.server_address[1]}"
    command = [sys.executable, "-I", str(PROBE), str(seconds), str(patience), url]
    environment = {**os.environ, "RESTRICTED_KEY": KEY, "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.usefixtures("scratch")
def test_every_model_computes_one_item_of_its_own_inputs(triton: Triton) -> None:
    done = probed(triton)
    assert (done.returncode, done.stdout) == (0, "every model is well\n")
    assert triton.bodies.keys() == INPUTS.keys() - {"image_embedding"}  # the steps of an ensemble are probed instead
    for inputs, payload in triton.bodies.values():
        assert sum(tensor["parameters"]["binary_data_size"] for tensor in inputs) == len(payload)
        assert all(size >= 1 for tensor in inputs for size in tensor["shape"])
    assert triton.bodies["image_preprocessing"][1][4:].startswith(b"\x89PNG")
    assert triton.bodies["text_encoder"][1] == (b"\1" + b"\0" * 7) * 53
    assert len(triton.bodies["vision_encoder"][1]) == 3 * 8 * 8
    assert triton.keys == {KEY}


@pytest.mark.usefixtures("scratch")
def test_a_server_that_is_not_ready_gets_no_inference_request(triton: Triton) -> None:
    triton.ready = False
    done = probed(triton)
    assert done.returncode == 1
    assert done.stdout.startswith("tritonserver: HTTP Error 503")
    assert triton.bodies == {}


@pytest.mark.parametrize(("answer", "seconds"), [("hangs", 1.0), ("fails", 20.0)])
def test_a_model_that_hangs_or_fails_is_named_when_patience_ends(
    triton: Triton, scratch: Path, answer: str, seconds: float
) -> None:
    triton.answers["vision_encoder"] = answer
    assert probed(triton, seconds, patience=60).returncode == 0
    start, waiting = json.loads(scratch.read_text(encoding="utf-8"))
    assert waiting.keys() == {"vision_encoder"}
    count, since = waiting["vision_encoder"]
    scratch.write_text(json.dumps([start, {"vision_encoder": [count, since - 61]}]), encoding="utf-8")
    done = probed(triton, seconds, patience=60)
    assert done.returncode == 1
    assert done.stdout.startswith("vision_encoder: ")
    assert "no request was finished for 6" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("change", ["a request was finished", "the container was started again", "it answers"])
def test_patience_begins_anew_after_a_finished_request_or_a_restart(triton: Triton, scratch: Path, change: str) -> None:
    triton.answers["vision_encoder"] = "fails"
    assert probed(triton, patience=60).returncode == 0
    start, waiting = json.loads(scratch.read_text(encoding="utf-8"))
    count, since = waiting["vision_encoder"]
    start = "0" if change == "the container was started again" else start
    scratch.write_text(json.dumps([start, {"vision_encoder": [count, since - 61]}]), encoding="utf-8")
    if change == "a request was finished":  # a batch may take longer than a probe waits
        triton.successes["vision_encoder"] += 1
    if change == "it answers":
        triton.answers["vision_encoder"] = "computes"
    assert probed(triton, patience=60).returncode == 0
    _, waiting = json.loads(scratch.read_text(encoding="utf-8"))
    assert all(later > since - 1 for _, later in waiting.values())


def test_a_server_that_does_not_listen_is_not_well() -> None:
    command = [sys.executable, "-I", str(PROBE), "5", "60", "http://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("tritonserver: ")

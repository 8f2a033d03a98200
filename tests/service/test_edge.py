"""Tests of the HTTP edge in front of the real server: vectors equal to the SDK's, the command line, and signals."""

from __future__ import annotations

import base64
import io
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.command import TUWEN, started, tuwen_here, tuwen_process
from tests.support.edge import base64_of, edge_process
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_files.quantization import quantize

TEXTS = ["一只猫", "a photo of a dog", ""]


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    gradient = Image.linear_gradient("L").convert("RGB").resize((70, 50))
    Image.blend(gradient, Image.new("RGB", (70, 50), colour), 0.4).save(file, "PNG")
    return file.getvalue()


PICTURES = [picture("red"), picture("blue")]


@pytest.fixture
def http(server: RecordedServer) -> Iterator[httpx.Client]:
    """Start an HTTP edge in front of the shared server, and yield an HTTP client of the edge."""
    with (
        edge_process(server.grpc_url, "--model-name", "tiny") as edge,
        httpx.Client(base_url=edge.address, timeout=60) as connected,
    ):
        yield connected


def asked(http: httpx.Client, path: str, body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_api_dialect_gives_exactly_the_vectors_of_the_sdk(http: httpx.Client, client: Client) -> None:
    texts, images = client.embed_texts(TEXTS), client.embed_images(PICTURES)
    coded = [base64_of(one) for one in PICTURES]
    both = np.concatenate([texts, images])

    items = [*TEXTS, *({"image": one} for one in coded)]
    floats = asked(http, "/v1/embeddings", {"input": items})
    assert np.array_equal(np.float32([one["embedding"] for one in floats["data"]]), both)
    packed = asked(http, "/v1/embeddings", {"input": items, "encoding_format": "base64"})
    assert b"".join(base64.b64decode(one["embedding"]) for one in packed["data"]) == both.astype("<f4").tobytes()
    small = asked(http, "/v1/embeddings", {"input": items, "encoding_format": "int8"})
    assert [one["embedding"] for one in small["data"]] == quantize(both, "int8").tolist()

    parts: list[Any] = [("input", (None, text)) for text in TEXTS]
    parts += [("input", ("a.png", one, "image/png")) for one in PICTURES]
    form = http.post("/v1/embeddings", files=parts).json()
    assert form["data"] == floats["data"]

    cohere = asked(http, "/v2/embed", {"model": "tiny", "texts": TEXTS})
    assert np.array_equal(np.float32(cohere["embeddings"]["float"]), texts)
    vectorized = asked(http, "/vectorize", {"texts": TEXTS, "images": coded})
    assert np.array_equal(np.float32(vectorized["textVectors"]), texts)
    assert np.array_equal(np.float32(vectorized["imageVectors"]), images)
    uploaded = http.post("/clip/img", files={"file": ("a.png", PICTURES[0], "image/png")}).json()
    assert np.array_equal(np.float32(uploaded["result"]), client.embed_images(PICTURES[:1])[0])


def test_scores_equal_those_of_the_sdk(http: httpx.Client, client: Client) -> None:
    coded = [base64_of(one) for one in PICTURES]
    found = asked(http, "/v1/similarity", {"images": coded, "texts": TEXTS})
    expected = client.similarity(images=PICTURES, texts=TEXTS)
    for name in ("cosine", "logits", "probabilities"):
        assert np.array_equal(np.float32(found[name]), getattr(expected, name))
    classified = asked(http, "/v1/classify", {"input": [{"image": one} for one in coded], "labels": ["猫", "狗"]})
    best = client.classify(PICTURES, ["猫", "狗"]).best
    assert [one["prediction"] for one in classified["data"]] == list(best)


def test_bad_items_are_named_by_their_index_in_the_request(http: httpx.Client) -> None:
    items = ["a", {"image": base64_of(b"no picture")}, {"image": base64_of(PICTURES[0])}, "b" * 300_000]
    answer = http.post("/v1/embeddings", json={"input": items})
    assert answer.status_code == 422
    found = {one["index"]: one["reason"] for one in answer.json()["error"]["items"]}
    assert found == {1: "unsupported_format", 3: "too_many_bytes"}


def test_the_edge_responds_503_while_its_server_is_unreachable() -> None:
    with edge_process("127.0.0.1:1", "--timeout", "1") as edge:
        assert httpx.get(f"{edge.address}/health", timeout=30).status_code == 503
        answer = httpx.post(f"{edge.address}/v1/embeddings", json={"input": "a"}, timeout=30)
        assert answer.status_code in (503, 504)
        assert "127.0.0.1:1" not in answer.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_edge_with_exit_code_0(server: RecordedServer, number: signal.Signals) -> None:
    with edge_process(server.grpc_url) as edge:
        assert httpx.post(f"{edge.address}/v1/embeddings", json={"input": "a"}, timeout=30).status_code == 200
        edge.process.send_signal(number)
        assert edge.process.wait(30) == 0
    requests = [json.loads(line) for line in edge.lines if line.startswith("{")]
    assert [one["route"] for one in requests] == ["/v1/embeddings"]
    assert edge.lines[-1] == "stopped"


def test_only_keys_of_the_key_file_are_accepted(server: RecordedServer, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = tuwen_here("edge-key", "me", "--file", str(file)).stdout.strip()
    with edge_process(server.grpc_url, "--keys", str(file)) as edge:
        url = f"{edge.address}/v1/embeddings"
        assert httpx.post(url, json={"input": "a"}, timeout=30).status_code == 401
        headers = {"authorization": f"Bearer {key}"}
        assert httpx.post(url, json={"input": "a"}, headers=headers, timeout=30).status_code == 200
    assert any('"key":"me"' in line for line in edge.lines)
    assert not any(key in line for line in edge.lines)


def test_a_wrong_setting_prints_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("nonsense")
    for arguments in (("--keys", str(tmp_path / "keys")), ("--host", "no such host"), ("--fetch-host", "")):
        finished = tuwen_process("edge", "127.0.0.1:1", "--port", "0", *arguments, code=1, timeout=60)
        assert finished.stderr.splitlines()[-1].startswith("tuwen: ")


def test_serve_starts_and_stops_the_server_with_an_edge(repository: Path) -> None:
    ports = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0", "--http-api", "0")
    with started([TUWEN, "serve", repository, *ports, "--json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        answer = httpx.post(f"{ready['http_api']}/v1/embeddings", json={"input": "一只猫"}, timeout=60)
        with Client(ready["grpc"]) as client:
            expected = client.embed_texts(["一只猫"])[0]
        assert np.array_equal(np.float32(answer.json()["data"][0]["embedding"]), expected)
        process.terminate()
        assert process.wait(120) == 0

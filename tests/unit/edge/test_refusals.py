"""The edge refuses invalid requests, and reports failures of the embedding server."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.edge import EdgeInMemory, base64_of, png
from tuwen import (
    AccessDeniedError,
    DeadlineExceededError,
    InferenceError,
    InvalidArgumentError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    ServerUnavailableError,
)
from tuwen.testing import FakeTransport
from tuwen_edge import EdgeOptions
from tuwen_edge.bodies import Memory
from tuwen_edge.errors import STATUSES, EdgeError
from tuwen_edge.keys import KeyFile, new_key, parse_keys

REQUEST = {"input": "a"}
PATHS: dict[str, Any] = {
    "/v1/embeddings": REQUEST,
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v1/classify": {"input": "a", "labels": ["b"]},
    "/v1/similarity": {"images": [base64_of(png())], "texts": ["b"]},
    "/v2/embed": {"model": "fake", "texts": ["a"]},
    "/vectorize": {"texts": ["a"]},
    "/clip/txt": {"text": "a"},
    "/v2/models/fake/infer": {
        "inputs": [{"name": "input_text", "shape": [1], "datatype": "BYTES", "data": ["a"]}],
    },
}


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (OverloadedError("the queue is full at 10.0.0.7"), 429, True),
        (DeadlineExceededError("too late at 10.0.0.7"), 504, False),
        (ServerUnavailableError("nobody at 10.0.0.7"), 503, True),
        (AccessDeniedError("wrong key for 10.0.0.7"), 502, False),
        (ModelNotFoundError("no model at 10.0.0.7"), 502, False),
        (InferenceError("failed at 10.0.0.7"), 502, False),
    ],
)
@pytest.mark.parametrize("path", list(PATHS))
def test_each_dialect_tells_of_a_server_in_trouble(path: str, error: ServerError, status: int, retry: bool) -> None:
    with EdgeInMemory(FakeTransport(fail_with=error), timeout=0.05) as edge:
        answer = edge.post(path, PATHS[path])
        assert answer.status_code == status
        assert ("retry-after" in answer.headers) is retry
        assert "10.0.0.7" not in answer.text
        assert answer.json()


def test_a_changed_model_is_reported_until_the_edge_restarts() -> None:
    with EdgeInMemory() as edge:
        assert edge.post("/v1/embeddings", REQUEST).status_code == 200
        assert edge.get("/.well-known/live").status_code == 204
        edge.fake.card = FakeTransport(fingerprint="1" * 32).card
        answer = edge.post("/v1/embeddings", {"input": "b"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "embedding_space_changed")
        for path in ("/health", "/.well-known/ready", "/.well-known/live"):
            assert edge.get(path).status_code == 503


def test_the_memory_of_all_bodies_holds_one_body() -> None:
    with pytest.raises(InvalidArgumentError, match="max_memory_mib"):
        EdgeOptions(max_body_mib=64, max_memory_mib=32)


def test_answers_429_when_the_bodies_in_memory_are_too_many() -> None:
    memory = Memory(10)
    memory.take(6)
    with pytest.raises(EdgeError) as caught:
        memory.take(5)
    assert (caught.value.status, caught.value.retry_after) == (429, 1)
    memory.give_back(6)
    memory.take(10)


def test_an_error_in_the_edge_shows_the_caller_no_details(caplog: pytest.LogCaptureFixture) -> None:
    with EdgeInMemory() as edge:
        edge.fake.infer = edge.fake.send = None  # type: ignore[assignment]
        answer = edge.post("/v1/embeddings", {"input": "a secret"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "edge_failed")
    [record] = [record for record in caplog.records if record.name == "tuwen_edge"]
    assert record.levelname == "ERROR"
    assert "secret" not in record.getMessage()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/embeddings", 405), ("POST", "/health", 405), ("PUT", "/v1/models", 405)],
)
def test_other_paths_and_methods_are_refused_with_json(edge: EdgeInMemory, method: str, path: str, status: int) -> None:
    answer = edge.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert ("allow" in answer.headers) is (status == 405)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/mixed"])
def test_other_media_types_are_refused(edge: EdgeInMemory, media_type: str) -> None:
    answer = edge.post("/v1/embeddings", content=json.dumps(REQUEST), headers={"content-type": media_type})
    assert answer.status_code == 415


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 5000, b'{"input": NaN}', b"null"])
def test_a_body_that_is_not_json_is_refused(edge: EdgeInMemory, content: bytes) -> None:
    answer = edge.post("/v1/embeddings", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_refuses_a_large_body_by_its_length_and_by_what_arrives() -> None:
    with EdgeInMemory(max_body_mib=1) as edge:
        large = json.dumps({"input": "a" * (1 << 20)}).encode()
        answer = edge.post("/v1/embeddings", content=large, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.headers["connection"]) == (413, "close")

        async def pieces() -> Any:
            for _ in range(64):
                yield b"a" * (1 << 16)

        answer = edge.post("/v1/embeddings", content=pieces(), headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("clip.example.com", True),
        ("clip.example.com:443", True),
        ("evil.example.com", False),
        ("localhost.evil.example.com", False),
        ("", False),
    ],
)
def test_answers_only_under_its_own_names(host: str, allowed: bool) -> None:
    with EdgeInMemory(allowed_hosts=("clip.example.com",)) as edge:
        status = edge.get("/health", headers={"host": host}).status_code
        assert status == (200 if allowed else 400)


def test_with_keys_every_name_is_answered(tmp_path: Path) -> None:
    key, line = new_key("me")
    (tmp_path / "keys").write_text(line)
    with EdgeInMemory(keys=tmp_path / "keys") as edge:
        headers = {"host": "any.example.com", "authorization": f"Bearer {key}"}
        assert edge.post("/v1/embeddings", REQUEST, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "header", [("authorization", "Bearer {}"), ("authorization", "bearer {}"), ("api-key", "{}"), ("x-api-key", "{}")]
)
def test_takes_a_key_in_each_header_that_clients_use(tmp_path: Path, header: tuple[str, str]) -> None:
    (key, line), (_, other) = new_key("me"), new_key("you")
    (tmp_path / "keys").write_text(f"# ours\n\n{other}\n{line}  # mine\n")
    with EdgeInMemory(keys=tmp_path / "keys") as edge:
        for path, body in PATHS.items():
            assert edge.post(path, body).status_code == 401
            assert edge.post(path, body, headers={header[0]: "wrong"}).status_code == 401
            assert edge.post(path, body, headers={header[0]: header[1].format(key)}).status_code == 200
        assert edge.post("/v1/embeddings", REQUEST).headers["www-authenticate"] == "Bearer"
        assert edge.get("/health").status_code == 200


def test_an_unknown_key_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(new_key("me")[1])
    taken = []

    async def pieces() -> Any:
        for _ in range(4):
            taken.append(1)
            yield b"a" * (1 << 16)

    with EdgeInMemory(keys=tmp_path / "keys", max_memory_mib=64) as edge:
        answer = edge.post("/v1/embeddings", content=pieces(), headers={"content-type": "application/json"})
        assert (answer.status_code, answer.headers["connection"]) == (401, "close")
        assert "tuwen_edge_body_bytes_total 0.0" in edge.get("/metrics").text


def test_a_key_is_stored_as_a_hash_and_can_be_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key, line = new_key("me")
    assert hashlib.sha256(key.encode()).hexdigest() in line
    assert key not in line
    file.write_text(line)
    keys = KeyFile(file)
    assert keys.name_of(key) == "me"
    file.write_text(new_key("you")[1])
    os.utime(file, (1, 1))
    with pytest.raises(Exception, match="unknown"):
        keys.name_of(key)


def test_a_key_file_that_breaks_later_leaves_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key, line = new_key("me")
    file.write_text(line)
    keys = KeyFile(file)
    file.write_text("nonsense")
    assert keys.name_of(key) == "me"
    file.unlink()
    assert keys.name_of(key) == "me"


@pytest.mark.parametrize("text", ["", "# none", "me", "me tuwen-abc", "me sha256:00", f"a sha256:{'0' * 64}\n" * 2])
def test_refuses_a_wrong_key_file_without_showing_it(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_keys(text)
    assert "tuwen-abc" not in str(caught.value)


def test_a_key_needs_a_name_that_fits_into_the_file() -> None:
    with pytest.raises(InvalidArgumentError):
        new_key("two words")


def test_scripts_of_other_origins_are_refused_by_default() -> None:
    asked = {"origin": "https://example.com", "access-control-request-method": "POST"}
    with EdgeInMemory() as edge:
        answer = edge.request("OPTIONS", "/v1/embeddings", headers=asked)
        assert answer.status_code == 405
        assert "access-control-allow-origin" not in answer.headers
    with EdgeInMemory(allowed_origins=("https://example.com",)) as edge:
        answer = edge.request("OPTIONS", "/v1/embeddings", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://example.com"
        answer = edge.post("/v1/embeddings", REQUEST, headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_every_status_of_an_error_is_described() -> None:
    assert {400, 401, 404, 408, 413, 415, 422, 429, 500, 502, 503, 504} == set(STATUSES)

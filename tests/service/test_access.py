"""Tests of access to the real server: restricted protocols, encryption, certificates, and secrets in errors."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.servers import RecordedServer
from tuwen import Client, RetryPolicy, ServerError, Tls
from tuwen_server import EmbeddedServer, ServerOptions

KEY = "a-key-for-the-test"
ONCE = RetryPolicy(attempts=1)
# One call of each restricted protocol, over gRPC and over HTTP.
CALLS: dict[str, tuple[Callable[[service_pb2_grpc.GRPCInferenceServiceStub], Callable[..., object]], object, str]] = {
    "model control": (
        lambda stub: stub.RepositoryModelLoad,
        service_pb2.RepositoryModelLoadRequest(model_name="text_encoder"),
        "v2/repository/models/text_encoder/load",
    ),
    "index": (lambda stub: stub.RepositoryIndex, service_pb2.RepositoryIndexRequest(), "v2/repository/index"),
    "shared memory": (
        lambda stub: stub.SystemSharedMemoryRegister,
        service_pb2.SystemSharedMemoryRegisterRequest(name="x", key="/x", byte_size=1),
        "v2/systemsharedmemory/region/x/register",
    ),
    "trace": (lambda stub: stub.TraceSetting, service_pb2.TraceSettingRequest(), "v2/trace/setting"),
    "logging": (lambda stub: stub.LogSettings, service_pb2.LogSettingsRequest(), "v2/logging"),
}


@pytest.fixture(scope="module")
def guarded(repository: Path) -> Iterator[EmbeddedServer]:
    """Yield a server whose restricted protocols need the key `KEY`."""
    with RecordedServer(repository, replace(ServerOptions.on_free_ports(), key=KEY)) as running:
        yield running


@pytest.mark.parametrize("name", CALLS)
def test_restricted_protocols_need_the_key(guarded: EmbeddedServer, server: EmbeddedServer, name: str) -> None:
    method, request, path = CALLS[name]
    for running, header, allowed in (
        (guarded, {"triton-grpc-protocol-tuwen": KEY}, True),
        (guarded, {"triton-grpc-protocol-tuwen": KEY[:-1]}, False),
        (guarded, {}, False),
        (server, {"triton-grpc-protocol-tuwen": KEY}, False),  # this server has a random key
    ):
        assert _over_grpc(running, method, request, header) == allowed
        over_http = {name.removeprefix("triton-grpc-protocol-"): value for name, value in header.items()}
        assert _over_http(running, path, over_http) == allowed


def test_embedding_needs_no_key_and_ignores_a_wrong_key(guarded: EmbeddedServer) -> None:
    for headers in ({}, {"triton-grpc-protocol-tuwen": "wrong" * 5}):
        with Client(guarded.grpc_url, retries=ONCE, headers=headers) as clip:
            assert clip.embed_texts(["一只猫"]).shape == (1, 64)


def _over_grpc(running: EmbeddedServer, method: object, request: object, headers: dict[str, str]) -> bool:
    with grpc.insecure_channel(running.grpc_url) as channel:
        try:
            method(service_pb2_grpc.GRPCInferenceServiceStub(channel))(request, timeout=20, metadata=[*headers.items()])
        except grpc.RpcError as error:
            return "restricted" not in error.details()
        return True


def _over_http(running: EmbeddedServer, path: str, headers: dict[str, str]) -> bool:
    body = json.dumps({"key": "/x", "offset": 0, "byte_size": 1} if "region" in path else {}).encode()
    question = urllib.request.Request(f"{running.http_url}/{path}", body, headers, method="POST")
    try:
        with urllib.request.urlopen(question, timeout=20):
            return True
    except urllib.error.HTTPError as error:
        return error.code != 403


@pytest.mark.parametrize(
    "path", ["v2/models/text_embedding/infer", "v2/models/text_embedding", "v2", "v2/models/text_embedding/config"]
)
def test_http_answers_only_health_checks(server: EmbeddedServer, path: str) -> None:
    with urllib.request.urlopen(f"{server.http_url}/v2/health/ready", timeout=20) as answer:
        assert answer.status == 200
    assert not _over_http(server, path, {})


@pytest.mark.parametrize("encoding", ["", "Content-Encoding: gzip\r\n", "Content-Encoding: deflate\r\n"])
def test_the_server_survives_a_request_of_a_million_chunks(server: EmbeddedServer, encoding: str) -> None:
    """A chunked request on a restricted path is refused with 403, and the server keeps running.

    Triton 2.51 copies the chunks of a body onto its stack (CVE-2025-23310). It refuses a request
    on a restricted path without reading the body.
    """
    host, port = server.http_url.removeprefix("http://").split(":")
    head = f"POST /v2/models/text_embedding/infer HTTP/1.1\r\nHost: x\r\n{encoding}Transfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=60) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(head.encode() + b"1\r\nA\r\n" * 1_000_000 + b"0\r\n\r\n")
        assert connection.recv(64).startswith(b"HTTP/1.1 403")
    assert server.trouble() is None
    with Client(server.grpc_url, retries=ONCE) as clip:
        assert clip.embed_texts(["一只猫"]).shape == (1, 64)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with certificates and keys.

    One authority issued the certificates ``server`` and ``client``, and another authority issued ``stranger``.
    """
    authority, folder = trustme.CA(), tmp_path_factory.mktemp("tls")
    for name, issuer in (("server", authority), ("client", authority), ("stranger", trustme.CA())):
        issued = issuer.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issuer.cert_pem.write_to_path(folder / f"{name}-ca.pem")
    return folder


def test_mutual_tls_lets_in_only_clients_with_a_certificate_of_the_authority(repository: Path, files: Path) -> None:
    """With mutual TLS, the server answers only clients whose certificate is from the server's authority.

    `tests/system/test_edge.py` tests TLS without client certificates, with the chart's arguments.
    """
    ours = files / "server-ca.pem"
    arguments = ("--grpc-use-ssl=true", f"--grpc-server-cert={files}/server.pem")
    arguments += (f"--grpc-server-key={files}/server.key",)
    arguments += ("--grpc-use-ssl-mutual=true", f"--grpc-root-cert={ours}")

    def let_in(tls: Tls | None) -> bool:
        with Client(running.grpc_url, tls=tls, retries=ONCE, timeout=10) as clip:
            try:
                return clip.embed_texts(["一只猫"]).shape == (1, 64)
            except ServerError:
                return False

    def with_certificate(name: str) -> Tls:
        return Tls(ca=ours, certificate=files / f"{name}.pem", key=files / f"{name}.key")

    with RecordedServer(repository, replace(ServerOptions.on_free_ports(), arguments=arguments)) as running:
        assert let_in(with_certificate("client"))
        assert not let_in(None)
        assert not let_in(Tls(ca=files / "stranger-ca.pem"))
        assert not let_in(Tls(ca=ours))
        assert not let_in(with_certificate("stranger"))
        # Triton does not encrypt HTTP, so HTTP tells whether the server is well, and nothing else.
        with urllib.request.urlopen(f"{running.http_url}/v2/health/ready", timeout=20) as answer:
            assert answer.status == 200
        for path in ("v2/models/text_embedding/infer", "v2/models/text_embedding/stats", "v2/models/text_embedding"):
            assert not _over_http(running, path, {})


def tensor(name: str, datatype: str, shape: list[int]) -> object:
    return service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)


BAD_REQUESTS: dict[str, dict[str, Any]] = {
    "a path for a model": {"model_name": "../../etc/passwd"},
    "no input": {"model_name": "image_embedding"},
    "a string longer than the request": {
        "model_name": "image_embedding",
        "inputs": [tensor("image", "BYTES", [1, 1])],
        "raw_input_contents": [b"\xff" * 9],
    },
    "no picture": {
        "model_name": "image_embedding",
        "inputs": [tensor("image", "BYTES", [1, 1])],
        "raw_input_contents": [b"\x02\0\0\0no"],
    },
    "another data type": {
        "model_name": "text_embedding",
        "inputs": [tensor("text", "FP32", [1, 1])],
        "raw_input_contents": [b"\0" * 4],
    },
    "another shape": {
        "model_name": "vision_encoder",
        "inputs": [tensor("pixel_values", "UINT8", [1, 3, 7, 7])],
        "raw_input_contents": [b"\0" * 147],
    },
    "texts without tokens": {
        "model_name": "text_encoder",
        "inputs": [tensor("input_ids", "INT64", [1, 0]), tensor("attention_mask", "INT64", [1, 0])],
        "raw_input_contents": [b"", b""],
    },
}


@pytest.mark.parametrize("fields", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_errors_reveal_no_paths_and_no_secrets(
    guarded: EmbeddedServer, repository: Path, fields: dict[str, Any]
) -> None:
    request = service_pb2.ModelInferRequest(**fields)
    metadata = [("triton-grpc-protocol-tuwen", "wrong" * 5)]
    with grpc.insecure_channel(guarded.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(request, timeout=20, metadata=metadata)
    message = error.value.details()
    assert message
    for secret in (str(repository), str(repository.parent), "/tmp", "/usr", "site-packages", ".py", KEY, "wrong" * 5):
        assert secret not in message

"""Who may do what on the real server: encryption, certificates, restricted protocols, addresses, what errors tell."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import psutil
import pytest
import trustme
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.servers import RecordedServer
from tuwen import Client, RetryPolicy, ServerError, Tls
from tuwen_build.server import EmbeddedServer, ServerOptions

KEY = "a-key-for-the-test"
ONCE = RetryPolicy(attempts=1)
# A call of each restricted protocol, over gRPC and over HTTP.
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
    with RecordedServer(repository, replace(ServerOptions.on_free_ports(), key=KEY)) as running:
        yield running


@pytest.mark.parametrize("name", CALLS)
def test_what_is_restricted_takes_the_key(guarded: EmbeddedServer, server: EmbeddedServer, name: str) -> None:
    method, request, path = CALLS[name]
    for running, header, allowed in (
        (guarded, {"triton-grpc-protocol-tuwen": KEY}, True),
        (guarded, {"triton-grpc-protocol-tuwen": KEY[:-1]}, False),
        (guarded, {}, False),
        (server, {"triton-grpc-protocol-tuwen": KEY}, False),  # whose key nobody knows
    ):
        assert _over_grpc(running, method, request, header) == allowed
        over_http = {name.removeprefix("triton-grpc-protocol-"): value for name, value in header.items()}
        assert _over_http(running, path, over_http) == allowed
    with Client(guarded.grpc_url) as clip:
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


def test_the_key_is_in_no_representation() -> None:
    assert KEY not in repr(replace(ServerOptions.on_free_ports(), key=KEY))


def test_it_listens_on_loopback_alone(server: EmbeddedServer) -> None:
    listening = [
        connection.laddr.ip
        for process in (psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert len(listening) >= 3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates: the server's, a client's of the same authority, a stranger's of another."""
    authority, folder = trustme.CA(), tmp_path_factory.mktemp("tls")
    for name, issuer in (("server", authority), ("client", authority), ("stranger", trustme.CA())):
        issued = issuer.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issuer.cert_pem.write_to_path(folder / f"{name}-ca.pem")
    return folder


@pytest.mark.parametrize("mutual", [False, True])
def test_encryption_lets_in_whom_it_should(repository: Path, files: Path, mutual: bool) -> None:
    ours, wrong = files / "server-ca.pem", files / "stranger-ca.pem"
    arguments = ["--grpc-use-ssl=true", f"--grpc-server-cert={files}/server.pem"]
    arguments += [f"--grpc-server-key={files}/server.key"]
    if mutual:
        arguments += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={ours}"]

    def let_in(tls: Tls | None) -> bool:
        with Client(running.grpc_url, tls=tls, retries=ONCE, timeout=10) as clip:
            try:
                return clip.embed_texts(["一只猫"]).shape == (1, 64)
            except ServerError:
                return False

    def mine(name: str) -> Tls:
        return Tls(ca=ours, certificate=files / f"{name}.pem", key=files / f"{name}.key")

    options = replace(ServerOptions.on_free_ports(), arguments=tuple(arguments))
    with RecordedServer(repository, options) as running:
        assert let_in(mine("client"))
        assert not let_in(None)
        assert not let_in(Tls(ca=wrong))
        assert let_in(Tls(ca=ours)) != mutual
        assert let_in(mine("stranger")) != mutual
        # HTTP, which has no encryption, tells whether the server is well, and nothing else.
        with urllib.request.urlopen(f"{running.http_url}/v2/health/ready", timeout=20) as answer:
            assert answer.status == 200
        for path in ("v2/models/text_embedding/infer", "v2/models/text_embedding/stats", "v2/models/text_embedding"):
            assert not _over_http(running, path, {})


def test_errors_tell_no_paths_and_no_secrets(guarded: EmbeddedServer, repository: Path) -> None:
    told: list[str] = []
    with grpc.insecure_channel(guarded.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def ask(**fields: object) -> None:
            with pytest.raises(grpc.RpcError) as error:
                stub.ModelInfer(service_pb2.ModelInferRequest(**fields), timeout=20)
            told.append(error.value.details())

        def tensor(name: str, datatype: str, shape: list[int]) -> object:
            return service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)

        ask(model_name="../../etc/passwd")
        ask(model_name="image_embedding")
        ask(model_name="image_embedding", inputs=[tensor("image", "BYTES", [1, 1])], raw_input_contents=[b"\xff" * 9])
        ask(
            model_name="image_embedding",
            inputs=[tensor("image", "BYTES", [1, 1])],
            raw_input_contents=[b"\x02\0\0\0no"],
        )
        ask(model_name="text_embedding", inputs=[tensor("text", "FP32", [1, 1])], raw_input_contents=[b"\0" * 4])
        ask(
            model_name="vision_encoder",
            inputs=[tensor("pixel_values", "UINT8", [1, 3, 7, 7])],
            raw_input_contents=[b"\0" * 147],
        )
        ask(
            model_name="text_encoder",
            inputs=[tensor("input_ids", "INT64", [1, 0]), tensor("attention_mask", "INT64", [1, 0])],
            raw_input_contents=[b"", b""],
        )
    with Client(guarded.grpc_url, retries=ONCE, headers={"triton-grpc-protocol-tuwen": "wrong" * 5}) as clip:
        clip.embed_texts(["一只猫"])
    for message in told:
        for secret in (
            str(repository),
            str(repository.parent),
            "/tmp",
            "/usr",
            "site-packages",
            ".py",
            KEY,
            "wrong" * 5,
        ):
            assert secret not in message, message
    print("\n".join(told))

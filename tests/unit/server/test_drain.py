"""Requests in flight finish before a server is told to end: who is asked for what, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.stand_in import HurriedClock, StandIn
from tuwen_build.server import EmbeddedServer
from tuwen_build.server._drain import ModelControl

MakeServer = Callable[..., EmbeddedServer]
KEY = "a-key-for-the-test"


class Control(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Triton's model control: an ensemble that is unloaded stays UNLOADING for a number of looks at the index.

    Attributes:
        asked: every call, with what the stand-in had noted until then.
    """

    def __init__(self, stand_in: StandIn | None = None, *, key: str | None = None, looks: float = 2) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self._stand_in = stand_in
        self._key = key
        self._looks = looks

    def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        self._note(f"unload {request.model_name}", context)
        return service_pb2.RepositoryModelUnloadResponse()

    def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._note("index", context)
        busy = sum(name == "index" for name, _ in self.asked) <= self._looks
        response = service_pb2.RepositoryIndexResponse()
        response.models.add(name="text_embedding", state="UNLOADING" if busy else "UNAVAILABLE")
        response.models.add(name="image_embedding", state="UNAVAILABLE")
        response.models.add(name="text_encoder", state="READY")
        return response

    def _note(self, name: str, context: Any) -> None:
        if self._key and dict(context.invocation_metadata()).get("triton-grpc-protocol-tuwen") != self._key:
            context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted")
        self.asked.append((name, self._stand_in.events() if self._stand_in else []))

    @property
    def calls(self) -> list[str]:
        """The names of the calls."""
        return [name for name, _ in self.asked]


@contextmanager
def listening(control: Control, address: str = "127.0.0.1:0") -> Iterator[str]:
    """Serve the protocol and provide the address."""
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(control, server)
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.fixture
def free_grpc_port(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the gRPC port of a server to the test, which listens on it with a `Control`."""
    stand_in.behave(grpc=False)
    monkeypatch.setattr("tuwen_build.server._embedded.accepts", lambda _: True)


@pytest.mark.usefixtures("free_grpc_port")
def test_stopping_waits_for_the_ensembles_and_then_sends_sigterm(make_server: MakeServer, stand_in: StandIn) -> None:
    server = make_server(key=KEY)
    server.start()
    control = Control(stand_in, key=KEY, looks=3)
    with listening(control, server.grpc_url):
        server.stop()
    unloads = ["unload image_embedding", "unload pixel_embedding", "unload text_embedding"]
    assert control.calls == [*unloads, "index", "index", "index", "index"]
    assert all(events == ["started"] for _, events in control.asked)
    assert stand_in.events() == ["started", "SIGTERM", "ended"]


@pytest.mark.usefixtures("free_grpc_port")
def test_a_server_that_is_not_ready_is_not_drained(make_server: MakeServer, stand_in: StandIn) -> None:
    server = make_server()
    server.start()
    stand_in.behave(ready=False)
    control = Control(stand_in)
    with listening(control, server.grpc_url):
        server.stop()
    assert control.calls == []
    assert stand_in.events() == ["started", "SIGTERM", "ended"]


@pytest.mark.usefixtures("free_grpc_port")
def test_a_server_that_is_restarted_is_not_drained(make_server: MakeServer, stand_in: StandIn) -> None:
    """Restarts are for servers that are not well, and their requests fail anyway."""
    server = make_server()
    server.start()
    control = Control(stand_in)
    with listening(control, server.grpc_url):
        server._end_process()
        server.stop()
    assert control.calls == []


def test_draining_ends_after_its_timeout(clock: HurriedClock) -> None:
    control = Control(looks=float("inf"))
    with listening(control) as address:
        ModelControl(clock=clock).drain(address, timeout=1)
    assert clock.now >= 1
    assert control.calls.count("index") == pytest.approx(1 / 0.05, abs=1)


@pytest.mark.parametrize("reason", ["no server", "another key"])
def test_a_server_that_cannot_be_drained_is_stopped_all_the_same(clock: HurriedClock, reason: str) -> None:
    control = Control(key="the key of somebody else")
    with listening(control) as address:
        ModelControl(KEY, clock=clock).drain("127.0.0.1:1" if reason == "no server" else address, timeout=60)
    assert control.calls == []
    assert clock.pauses == []


def test_only_the_holder_of_the_key_gets_the_rights() -> None:
    protocols = "model-repository,shared-memory,trace,logging"
    assert ModelControl(KEY).arguments() == [
        "--model-control-mode=explicit",
        "--load-model=*",
        f"--grpc-restricted-protocol={protocols}:tuwen={KEY}",
        f"--http-restricted-api={protocols},inference,metadata,model-config,statistics:tuwen={KEY}",
    ]


def test_inference_over_http_is_open_only_if_it_is_asked_for() -> None:
    arguments = ModelControl(KEY, http_inference=True).arguments()
    assert f"--http-restricted-api=model-repository,shared-memory,trace,logging:tuwen={KEY}" in arguments


def test_nobody_knows_the_key_of_a_server_that_was_given_none() -> None:
    assert ModelControl().arguments() != ModelControl().arguments()

"""Requests in flight finish before a server is told to end. The tests check the calls to the server and their order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.stand_in import HurriedClock, StandIn
from tuwen_server import EmbeddedServer
from tuwen_server._drain import ModelControl

MakeServer = Callable[..., EmbeddedServer]
KEY = "a-key-for-the-test"
UNLOADS = ["unload image_embedding", "unload pixel_embedding", "unload text_embedding"]


@pytest.mark.parametrize("arguments", [(), ("--grpc-use-ssl=true",)], ids=["plain", "TLS"])
def test_stopping_waits_for_the_ensembles_and_then_sends_sigterm(
    make_server: MakeServer, stand_in: StandIn, arguments: tuple[str, ...]
) -> None:
    stand_in.behave(busy_looks=3)
    server = make_server(key=KEY, arguments=arguments)
    server.start()
    server.stop()
    assert stand_in.timeline() == ["started", "index", *UNLOADS, "index", "index", "index", "index", "SIGTERM", "ended"]


def test_stopping_drains_aliases_too(make_server: MakeServer, stand_in: StandIn) -> None:
    stand_in.behave(aliases=["shop_text_embedding", "resnet"])
    server = make_server()
    server.start()
    server.stop()
    unloads = [*UNLOADS, "unload shop_text_embedding"]
    assert stand_in.timeline() == ["started", "index", *unloads, "index", "SIGTERM", "ended"]


def test_draining_does_not_go_through_a_proxy(
    make_server: MakeServer, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    server = make_server()
    server.start()
    server.stop()
    assert stand_in.timeline() == ["started", "index", *UNLOADS, "index", "SIGTERM", "ended"]


def test_a_server_that_is_not_ready_is_not_drained_and_the_log_says_so(
    make_server: MakeServer, stand_in: StandIn
) -> None:
    lines: list[str] = []
    server = make_server(on_log_line=lines.append)
    server.start()
    stand_in.behave(ready=False)
    server.stop()
    assert stand_in.timeline() == ["started", "SIGTERM", "ended"]
    assert "error: the server was not ready, so requests in flight were not waited for" in lines


def test_a_server_that_is_restarted_is_not_drained(make_server: MakeServer, stand_in: StandIn) -> None:
    """A restart ends the server without draining, because the requests of an unhealthy server fail anyway."""
    server = make_server()
    server.start()
    server._end_process()
    server.stop()
    assert stand_in.timeline() == ["started"]


def test_draining_ends_after_its_timeout_and_the_log_says_so(
    make_server: MakeServer, stand_in: StandIn, clock: HurriedClock
) -> None:
    lines: list[str] = []
    stand_in.behave(busy_looks=10**9)
    server = make_server(drain_timeout=1, on_log_line=lines.append)
    server.start()
    before = clock.time
    server.stop()
    assert clock.time - before >= 1
    assert stand_in.timeline().count("index") - 1 == pytest.approx(1 / 0.05, abs=1)
    assert "error: requests were still in flight after the drain timeout of 1 s" in lines


@pytest.mark.parametrize(("reason", "why"), [("no server", "refused"), ("another key", "403")])
def test_a_server_that_cannot_be_drained_is_stopped_all_the_same(
    make_server: MakeServer, clock: HurriedClock, reason: str, why: str
) -> None:
    server = make_server(key="the-key-of-somebody-else")
    server.start()
    pauses = list(clock.pauses)
    url = "http://127.0.0.1:1" if reason == "no server" else server.http_url
    lost = ModelControl(KEY, clock=clock).drain(url, timeout=60)
    assert lost is not None
    assert "could not be drained" in lost
    assert why in lost
    assert clock.pauses == pauses


@pytest.mark.parametrize("index", [b"", b"{}", b"[1]", b"no json"])
def test_a_malformed_list_of_models_is_a_draining_error(monkeypatch: pytest.MonkeyPatch, index: bytes) -> None:
    monkeypatch.setattr("tuwen_server._drain.post", lambda *_: index)
    lost = ModelControl(KEY).drain("http://127.0.0.1:1", timeout=60)
    assert lost is not None
    assert "could not be drained" in lost


def test_a_server_that_ignores_sigterm_is_killed_and_the_log_says_so(
    make_server: MakeServer, stand_in: StandIn
) -> None:
    lines: list[str] = []
    stand_in.behave(ignores_sigterm=True)
    server = make_server(drain_timeout=0, on_log_line=lines.append)
    server.start()
    server.stop()
    assert any("tritonserver was still running" in line for line in lines)


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


def test_a_server_without_a_given_key_gets_a_random_key() -> None:
    assert ModelControl().arguments() != ModelControl().arguments()

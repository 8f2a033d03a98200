"""Requests in flight finish before a server is told to end. The tests check the calls to the server and their order."""

from __future__ import annotations

import json
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


class FakeTriton:
    """A fake of a server's HTTP API and metrics. The ensemble `shop_text_embedding` belongs to an alias.

    As in Triton, an unloaded model keeps its counters, and loses its gauge after the last response.

    Args:
        looks: the number of times that the metrics still show the alias after it was unloaded; None: the server has no
            metrics.
    """

    ENSEMBLES = ("text_embedding", "shop_text_embedding")

    def __init__(self, looks: int | None) -> None:
        self.calls: list[str] = []
        self._looks = looks
        self._loaded = set(self.ENSEMBLES)

    def get(self, url: str, *_: object) -> bytes:
        if url.endswith("/stats"):
            return json.dumps({"model_stats": [{"name": name} for name in self._loaded]}).encode()
        self.calls.append("metrics")
        if self._looks is None:
            raise ConnectionRefusedError
        found = set(self._loaded)
        if "shop_text_embedding" not in self._loaded and self._looks > 0:
            self._looks -= 1
            found.add("shop_text_embedding")
        counters = "".join(f'nv_inference_count{{model="{name}",version="1"}} 3\n' for name in self.ENSEMBLES)
        gauges = "".join(f'nv_inference_pending_request_count{{model="{name}",version="1"}} 0\n' for name in found)
        return (counters + gauges).encode()

    def post(self, url: str, *_: object) -> bytes:
        if url.endswith("/index"):
            return json.dumps(
                [{"name": "text_embedding", "state": "READY"}] * ("text_embedding" in self._loaded)
            ).encode()
        self._loaded.discard(url.split("/")[-2])
        self.calls.append(f"unload {url.split('/')[-2]}")
        return b""


class TestAliases:
    """Draining waits for requests to aliases, which the metrics show, because Triton's index does not list aliases."""

    UNLOADED = ("unload text_embedding", "unload shop_text_embedding")

    def drained(self, monkeypatch: pytest.MonkeyPatch, clock: HurriedClock, triton: FakeTriton) -> str | None:
        monkeypatch.setattr("tuwen_server._drain.get", triton.get)
        monkeypatch.setattr("tuwen_server._drain.post", triton.post)
        return ModelControl(KEY, clock=clock).drain("http://127.0.0.1:1", "http://127.0.0.1:1/metrics", timeout=2)

    def test_an_alias_is_waited_for_until_its_gauge_is_gone(
        self, monkeypatch: pytest.MonkeyPatch, clock: HurriedClock
    ) -> None:
        triton = FakeTriton(looks=20)  # a second, which is longer than the pause without metrics
        assert self.drained(monkeypatch, clock, triton) is None
        assert triton.calls == ["metrics", *self.UNLOADED, *["metrics"] * 21]

    def test_a_request_that_is_never_answered_ends_the_wait_at_the_timeout(
        self, monkeypatch: pytest.MonkeyPatch, clock: HurriedClock
    ) -> None:
        lost = self.drained(monkeypatch, clock, FakeTriton(looks=10**9))
        assert lost is not None
        assert "requests were still in flight after the drain timeout of 2 s" in lost

    def test_without_metrics_there_is_a_pause(self, monkeypatch: pytest.MonkeyPatch, clock: HurriedClock) -> None:
        triton = FakeTriton(looks=None)
        assert self.drained(monkeypatch, clock, triton) is None
        assert triton.calls == ["metrics", *self.UNLOADED]
        assert clock.pauses == [0.5]


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
    lost = ModelControl(KEY, clock=clock).drain(url, "http://127.0.0.1:1/metrics", timeout=60)
    assert lost is not None
    assert "could not be drained" in lost
    assert why in lost
    assert clock.pauses == pauses


@pytest.mark.parametrize("index", [b"", b"{}", b"[1]", b"no json"])
def test_a_malformed_list_of_models_is_a_draining_error(monkeypatch: pytest.MonkeyPatch, index: bytes) -> None:
    monkeypatch.setattr("tuwen_server._drain.post", lambda *_: index)
    lost = ModelControl(KEY).drain("http://127.0.0.1:1", "http://127.0.0.1:1/metrics", timeout=60)
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

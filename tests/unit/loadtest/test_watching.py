"""The readings of machines and processes during a load test, and the relay that cuts connections of bad clients."""

from __future__ import annotations

import asyncio
import math
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import NoReturn

import psutil
import pytest

from tests.support.command import wait_until
from tuwen import InvalidArgumentError
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._target import Target
from tuwen_loadtest._usage import Usage, usage_of
from tuwen_loadtest._watch import Reading, watch, watch_processor
from tuwen_loadtest.scenarios._relay import Relay


class TestWatch:
    PAGE = """
# TYPE nv_cpu_utilization gauge
nv_cpu_utilization 0.25
# TYPE nv_cpu_memory_used_bytes gauge
nv_cpu_memory_used_bytes 1073741824
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-2"} 1.0
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 1048576
nv_gpu_memory_used_bytes{gpu_uuid="GPU-2"} 2097152
"""
    CACHE = """
# TYPE tuwen_text_cache_hits_total counter
tuwen_text_cache_hits_total 30
# TYPE tuwen_text_cache_misses_total counter
tuwen_text_cache_misses_total 12
"""

    def watched(self, page: str, *, failures: int = 0) -> list[Reading]:
        """Return the readings of a server that first sends `failures` errors, and then a page of metrics."""
        statuses = [503] * failures

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(statuses.pop() if statuses else 200)
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            with watch([f"http://127.0.0.1:{server.server_port}/metrics"], every=0.01) as readings:
                wait_until(lambda: readings)
            server.shutdown()
        assert statuses == []
        return readings

    def test_a_reading_has_the_machine_and_its_gpus(self) -> None:
        before = time.time()
        reading = self.watched(self.PAGE)[0]
        assert (reading.cpu, reading.memory_mib, reading.gpu, reading.gpu_memory_mib) == (0.25, 1024, 0.75, 3)
        assert before <= reading.time <= time.time()

    def test_a_reading_without_gpus_leaves_them_out(self) -> None:
        reading = self.watched(self.PAGE[: self.PAGE.index("# TYPE nv_gpu_utilization")])[0]
        assert reading.cpu == 0.25
        assert math.isnan(reading.gpu)
        assert math.isnan(reading.gpu_memory_mib)

    def test_a_reading_has_the_counters_of_the_server_s_cache(self) -> None:
        reading = self.watched(self.PAGE + self.CACHE)[0]
        assert (reading.cache_hits, reading.cache_misses) == (30, 12)
        assert math.isnan(self.watched(self.PAGE)[0].cache_hits)

    def test_readings_go_on_after_errors_of_the_server(self) -> None:
        assert self.watched(self.PAGE, failures=3)[0].cpu == 0.25

    def test_metrics_on_loopback_are_read_without_the_proxy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.delenv("no_proxy", raising=False)
        assert self.watched(self.PAGE)[0].cpu == 0.25

    def test_rejects_an_address_without_a_scheme(self) -> None:
        with (
            pytest.raises(InvalidArgumentError, match="such as http://host:8002/metrics, got clip:8002"),
            watch(["clip:8002"]),
        ):
            pass


def test_the_busy_share_of_this_machine_is_read_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.0, 25.0, 100.0])  # the first share is not about a second, so it is dropped
    monkeypatch.setattr("tuwen_loadtest._watch.psutil.cpu_percent", lambda: next(shares, 50.0))
    with watch_processor(every=0.01) as found:
        wait_until(lambda: len(found) >= 3)
    assert found[:3] == [0.25, 1.0, 0.5]


@pytest.mark.parametrize(
    ("url", "here"),
    [("localhost:8001", True), ("127.0.0.1:8001", True), ("[::1]:8001", True), ("clip.search.svc:8001", False)],
)
def test_a_target_on_loopback_is_on_this_machine(url: str, here: bool) -> None:
    assert Target(url, Connection(url)).on_this_machine is here


class TestRelay:
    @pytest.fixture
    def echo(self) -> Iterator[socketserver.ThreadingTCPServer]:
        class Echo(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    while piece := self.request.recv(1 << 16):
                        self.request.sendall(piece)
                except ConnectionResetError:
                    resets.append(time.monotonic())

        resets = self.resets = list[float]()
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield server
            server.shutdown()

    def through(self, relay: Relay) -> socket.socket:
        host, port = relay.url.split(":")
        return socket.create_connection((host, int(port)), timeout=10)

    def test_a_slow_relay_waits_for_every_byte_in_both_directions(self, echo: socketserver.ThreadingTCPServer) -> None:
        host, port = echo.server_address[:2]
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        slow = Relay(str(host), port, bytes_a_second=1_000_000, sleep=sleep)
        with slow as relay, self.through(relay) as wire:
            received = b""
            wire.sendall(b"x" * 500_000)
            wire.shutdown(socket.SHUT_WR)
            while piece := wire.recv(1 << 16):
                received += piece
            assert received == b"x" * 500_000
        assert sum(pauses) == pytest.approx(2 * 0.5)

    def test_a_relay_that_ends_while_it_connects_logs_nothing(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A relay that ends while it connects to the server logs nothing.

        Before Python 3.12, asyncio logs a traceback for a connection whose task was cancelled.
        """
        connecting = threading.Event()

        async def never(*_: object) -> NoReturn:
            connecting.set()
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr("tuwen_loadtest.scenarios._relay.asyncio.open_connection", never)
        with Relay("127.0.0.1", 1) as relay, self.through(relay):
            assert connecting.wait(60)
        assert caplog.records == []

    def test_the_server_sees_a_reset_when_the_relay_is_cut(self, echo: socketserver.ThreadingTCPServer) -> None:
        host, port = echo.server_address[:2]
        with Relay(str(host), port) as relay, self.through(relay) as wire:
            wire.sendall(b"hello")
            assert wire.recv(5) == b"hello"
            relay.cut()
            wait_until(lambda: self.resets)


def test_the_usage_of_a_process_includes_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def __init__(self, pid: int) -> None:
            self.pid = pid

        def children(self, recursive: bool) -> list[Process]:
            return [Process(2), Process(3)] if recursive else []

        def cpu_times(self) -> SimpleNamespace:
            if self.pid == 3:
                raise psutil.NoSuchProcess(3)  # the process has ended since it was listed
            return SimpleNamespace(user=1.5 * self.pid, system=0.25)

        def memory_full_info(self) -> SimpleNamespace:
            return SimpleNamespace(pss=self.pid << 20)

    monkeypatch.setattr("tuwen_loadtest._usage.psutil.Process", Process)
    assert usage_of(1) == Usage(cpu_seconds=1.5 + 3.0 + 0.5, memory_mib=3.0)

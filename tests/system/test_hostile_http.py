"""Tests of huge bodies, slow connections and slow bodies. The HTTP edge must still answer good requests."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import psutil
import pytest

from tests.support.edge import EdgeProcess, edge_process
from tests.support.servers import RecordedServer

MIB = 1 << 20
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SPARE_FILES = 200


@pytest.fixture
def edge(server: RecordedServer) -> Iterator[EdgeProcess]:
    """Yield an HTTP edge in front of the real server, with an upload timeout of 20 seconds."""
    with edge_process(server.grpc_url, "--no-access-log", "--upload-timeout", "20") as running:
        assert_good_requests_go_on(running)
        yield running


def assert_good_requests_go_on(edge: EdgeProcess) -> None:
    with httpx.Client(base_url=edge.address, timeout=60) as http:
        for number in range(20):
            assert http.post("/v1/embeddings", json={"input": f"text {number}"}).status_code == 200
    with httpx.Client(base_url=edge.address, timeout=60) as http:  # over a new connection
        assert http.post("/v1/embeddings", json={"input": "a"}).status_code == 200


def memory(edge: EdgeProcess) -> int:
    return int(psutil.Process(edge.process.pid).memory_info().rss)


def connection(edge: EdgeProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(edge.address.rpartition(":")[2])), timeout=60)


@pytest.mark.parametrize("length", [b"Content-Length: 1073741824\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_body_of_a_gigabyte_is_refused(edge: EdgeProcess, length: bytes) -> None:
    before, sent = memory(edge), 0
    with connection(edge) as caller:
        caller.sendall(HEAD + length + b"\r\n")
        piece = b"10000\r\n" + b"a" * 65536 + b"\r\n" if b"chunked" in length else b"a" * 65536
        with suppress(ConnectionError):
            while sent < 1024 * MIB:
                caller.sendall(piece)
                sent += len(piece)
        with suppress(ConnectionError):
            assert caller.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
    assert sent < 200 * MIB
    assert memory(edge) - before < 150 * MIB
    assert_good_requests_go_on(edge)


def test_slow_connections_do_not_block_other_callers(edge: EdgeProcess) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - SPARE_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + SPARE_FILES), hard))
    before = memory(edge)
    try:
        with ExitStack() as opened:
            for _ in range(count):
                caller = opened.enter_context(connection(edge))
                with suppress(ConnectionError):
                    caller.sendall(HEAD)
            assert_good_requests_go_on(edge)
            assert memory(edge) - before < 150 * MIB
            print(f"{count} slow connections")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert_good_requests_go_on(edge)


def test_slow_bodies_time_out_and_do_not_block_other_callers(edge: EdgeProcess) -> None:
    before = memory(edge)
    with ExitStack() as opened:
        callers = [opened.enter_context(connection(edge)) for _ in range(500)]
        for caller in callers:
            caller.sendall(HEAD + b'Content-Length: 1000\r\n\r\n{"input"')
        assert_good_requests_go_on(edge)
        assert memory(edge) - before < 150 * MIB
        for caller in callers:
            assert caller.recv(1 << 16).startswith(b"HTTP/1.1 408 ")

"""Behind a real socket, the edge survives slow, large and malformed requests, and stops cleanly."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import suppress
from typing import Any

import pytest

import tuwen_edge._protocol as protocol
from tests.support.edge import edge_in_a_thread
from tuwen import InvalidArgumentError
from tuwen.testing import FakeTransport
from tuwen_edge import EdgeOptions, EdgeThread

HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def sent(address: str, data: bytes) -> bytes:
    """Send bytes, and return everything that the edge sends back until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port_of(address)), timeout=20) as connection:
        connection.sendall(data)
        found = b""
        while piece := connection.recv(1 << 16):
            found += piece
        return found


def embeds(address: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(address), timeout=20)
    connection.request("POST", "/v1/embeddings", b'{"input": "a"}', {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n{}x",
        HEAD + b"Content-Length: +3\r\n\r\n{}x",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length : 3\r\n\r\n{}x",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_refuses_requests_that_two_servers_may_read_differently(request_bytes: bytes) -> None:
    with edge_in_a_thread() as address:
        assert sent(address, request_bytes).startswith(b"HTTP/1.1 400 ")
        assert embeds(address)


def test_refuses_a_large_head() -> None:
    with edge_in_a_thread() as address:
        answer = sent(address, HEAD + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(70)))
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert embeds(address)


def test_closes_a_connection_whose_head_does_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_HEAD_SECONDS", 0.2)
    with edge_in_a_thread() as address:
        for begun in (b"", b"POST /v1/emb", HEAD):
            assert_closed(address, begun)
        assert embeds(address)


def assert_closed(address: str, begun: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port_of(address)), timeout=20) as connection:
        connection.sendall(begun)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


def test_answers_408_when_a_body_does_not_arrive() -> None:
    with edge_in_a_thread(upload_timeout=0.2) as address:
        answer = sent(address, HEAD + b"Content-Length: 100\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"upload_timeout" in answer


def test_a_new_connection_ends_the_one_that_has_waited_longest() -> None:
    with edge_in_a_thread(max_connections=3) as address:
        waiting = [socket.create_connection(("127.0.0.1", port_of(address)), timeout=20) for _ in range(3)]
        for connection in waiting:
            connection.sendall(b"POST /v1/emb")
        assert embeds(address)
        with suppress(ConnectionResetError):
            assert waiting[0].recv(1) == b""
        for connection in waiting:
            connection.close()


def test_the_answer_to_a_body_that_is_too_large_reaches_its_sender() -> None:
    with edge_in_a_thread(max_body_mib=1) as address:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(address), timeout=20)
        connection.request("POST", "/v1/embeddings", b"a" * (3 << 20), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 413
        connection.close()


def test_requests_in_flight_finish_before_the_edge_stops() -> None:
    begun, let_go = threading.Event(), threading.Event()

    class Slow(FakeTransport):
        def send(self, request: Any, timeout: float) -> Any:
            begun.set()
            let_go.wait(20)
            return super().send(request, timeout)

    found: list[bool] = []
    with edge_in_a_thread(Slow()) as address:
        caller = threading.Thread(target=lambda: found.append(embeds(address)))
        caller.start()
        begun.wait(20)
        threading.Timer(0.2, let_go.set).start()
    caller.join(20)
    assert found == [True]


def test_a_port_in_use_is_named() -> None:
    with edge_in_a_thread() as address, pytest.raises(InvalidArgumentError, match=str(port_of(address))):
        EdgeThread(EdgeOptions(port=port_of(address)))


def test_a_websocket_is_refused() -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"
    with (
        edge_in_a_thread() as address,
        socket.create_connection(("127.0.0.1", port_of(address)), timeout=20) as connection,
    ):
        connection.sendall(b"GET /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 405 ")

"""Helpers of the fuzz targets for URLs and headers: fake web hosts, a gRPC server, and a request to the search page."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import grpc
import httpx

from tuwen import HttpFetcher
from tuwen._http import CheckedTransport, Fetches
from tuwen.connection import Metadata
from tuwen_search.web._guard import Guard

__all__ = ["FakeWeb", "GrpcHeaders", "answer_of_the_page"]

Headers = Sequence[tuple[bytes, bytes]]
_ALLOWED = ("img.example.com", "*.cdn.example.com", "8.8.8.8", "[2001:db8::1]:8080")


class FakeWeb:
    """Fake web hosts that an `HttpFetcher` calls without a network. A test chooses their responses' headers.

    A request to a host that the fetcher does not allow fails an assertion.
    """

    def __init__(self) -> None:
        self._fetcher = HttpFetcher(_ALLOWED, timeout=10.0, max_bytes=100)
        self._fetches = _OwnFetches()
        self._answers: list[tuple[int, Headers]] = []

    def fetch(self, url: str) -> bytes:
        """Fetch a URL. Its host responds with status 200 and a short body."""
        return self._run(url)

    def fetch_redirect_to(self, url: str) -> bytes:
        """Fetch an allowed URL whose host redirects to the given URL."""
        return self._run("http://img.example.com/a", (302, [(b"location", url.encode("utf-8", "surrogateescape"))]))

    def fetch_with_headers(self, headers: Headers) -> bytes:
        """Fetch an allowed URL whose host responds with the given headers.

        The response leaves out headers that HTTP/1.1 cannot carry.
        """
        return self._run("http://img.example.com/a", (200, headers), (200, [(b"content-length", headers[0][1])]))

    def _run(self, url: str, *answers: tuple[int, Headers]) -> bytes:
        self._answers = [
            (status, [pair for pair in headers if _carried(pair)]) for status, headers in reversed(answers)
        ]
        with (
            mock.patch("tuwen._http.CheckedTransport", self._transport),
            mock.patch("tuwen._http._resolved", self._resolved),
        ):
            return asyncio.run(self._fetches.fetch(self._fetcher, url))

    def _transport(self, rules: HttpFetcher, tls: ssl.SSLContext) -> CheckedTransport:
        transport = CheckedTransport(rules, tls)
        transport._inner = httpx.MockTransport(self._answer)  # type: ignore[assignment]
        return transport

    async def _resolved(self, host: str) -> list[ipaddress.IPv4Address]:
        assert _is_allowed(host), f"the host {host!r} was looked up, although it is not allowed"
        return [ipaddress.ip_address("10.0.0.1" if host.startswith("private") else "93.184.216.34")]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        asked = request.url.host
        assert asked == "93.184.216.34" or _is_allowed(asked), (
            f"the host {asked!r} was called, although it is not allowed"
        )
        status, headers = self._answers.pop() if self._answers else (200, [])
        return httpx.Response(status, headers=list(headers), stream=httpx.ByteStream(b"pixels"))


class _OwnFetches(Fetches):
    """A replacement for `Fetches` that fetches in the caller's event loop and raises the original errors."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(1)
        self._tls = ssl.create_default_context()

    async def fetch(self, rules: HttpFetcher, url: str) -> bytes:
        return await self._fetch(rules, url, ["a web address"])


def _carried(pair: tuple[bytes, bytes]) -> bool:
    """Return whether HTTP/1.1 can carry a header. h11 rejects all other headers."""
    name, value = pair
    return bool(re.fullmatch(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+", name)) and not re.search(rb"[\x00\n\r\f\v]", value)


def _is_allowed(host: str) -> bool:
    name = host.lower().rstrip(".")
    return name in ("img.example.com", "8.8.8.8", "2001:db8::1") or name.endswith(".cdn.example.com")


class GrpcHeaders:
    """A gRPC server in this process that records the headers of each call."""

    def __init__(self) -> None:
        self._arrived: list[tuple[str, str]] = []
        self._server = grpc.server(ThreadPoolExecutor(1))
        self._server.add_generic_rpc_handlers([self])
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._call = self._channel.unary_unary("/headers/Send")

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return the handler of every call, as `grpc.GenericRpcHandler` requires."""
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self._arrived = [(name, value) for name, value in context.invocation_metadata()]
        return request

    def send(self, metadata: Metadata) -> None:
        """Send a call with the given headers, and check that all of them arrive."""
        assert self._call(b"", metadata=metadata, timeout=30) == b""
        missing = set(metadata) - set(self._arrived)
        assert not missing, f"these headers did not arrive: {missing}"


def answer_of_the_page(headers: Headers) -> int:
    """Return the search page's HTTP status for a request with the given headers, whose names are lower-case."""
    sent: list[int] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            sent.append(message["status"])

    guard = Guard(app, most_bytes=1 << 20, hosts=["gallery.example"])
    asyncio.run(guard({"type": "http", "headers": list(headers)}, None, send))  # type: ignore[arg-type]
    [status] = sent
    assert status in (200, 400, 413)
    return status

"""Images at web addresses: fetched only when a client was given a fetcher, and only from the hosts it allows."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from tuwen._errors import InvalidArgumentError
from tuwen._images import UnreadableItemError

__all__ = ["HttpFetcher", "is_web_url"]

_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE = 1 << 16
_LONGEST = 86_400.0  # seconds; a socket takes no timeout of more than 24 days


@dataclass(frozen=True)
class HttpFetcher:
    """Lets a client take ``http://`` and ``https://`` addresses as images.

    Whoever chooses an address chooses what your machine connects to, so only hosts that you name are ever asked,
    redirects included, and no proxy or credential of the environment is used.

    Attributes:
        allow: hosts, such as ``img.example.com``; ``*.example.com`` for all below it; ``host:port`` where the port
            is not the scheme's own.
        timeout: seconds for one image, redirects included; the timeout of the call bounds it as well.
        max_bytes: the largest image.
        max_redirects: how many are followed.

    Raises:
        InvalidArgumentError: nobody is allowed, or a number makes no sense.
    """

    allow: Collection[str]
    timeout: float = 10.0
    max_bytes: int = 32 << 20
    max_redirects: int = 3

    def __post_init__(self) -> None:
        if isinstance(self.allow, str) or not self.allow:
            raise InvalidArgumentError('allow is a list of hosts, such as ["img.example.com", "*.cdn.example.com"]')
        if self.timeout <= 0 or self.max_bytes < 1 or self.max_redirects < 0:
            raise InvalidArgumentError("timeout and max_bytes are positive, max_redirects is 0 or more")

    def fetch(self, url: str, left: float | None = None) -> bytes:
        """The bytes at an address.

        Args:
            url: of scheme http or https.
            left: seconds that the call has left.

        Raises:
            UnreadableItemError: the host is not allowed, does not answer in time, answers with an error or with
                too many bytes. Names the host, never the path or the query, which may carry a key.
        """
        end = time.monotonic() + min(self.timeout, _LONGEST if left is None else left, _LONGEST)
        for _ in range(self.max_redirects + 1):
            parts = self._allowed(url)
            answer = self._ask(parts, end)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise _refusal(urlsplit(url), f"more than {self.max_redirects} redirects")

    def _allowed(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise UnreadableItemError(f"not a web address: {error}", "not_fetched") from error
        if parts.scheme not in ("http", "https") or not host:
            raise UnreadableItemError("not an http or https address with a host", "not_fetched")
        name = host if port is None else f"{host}:{port}"
        for pattern in self.allow:
            allowed = pattern.lower()
            if name == allowed or (allowed.startswith("*.") and name.endswith(allowed[1:])):
                return parts
        raise _refusal(parts, "this host is not among those that the fetcher allows")

    def _ask(self, parts: SplitResult, end: float) -> bytes | str:
        """The bytes there, or where they have moved to."""
        left = end - time.monotonic()
        if left <= 0:
            raise _refusal(parts, "no answer in time")
        connection = _connection(parts, left)
        expired = threading.Event()
        try:
            connection.connect()
            with _cut_at(end, connection.sock, expired):
                connection.request("GET", _path(parts), headers={"Accept": "image/*", "User-Agent": "tuwen"})
                with connection.getresponse() as response:
                    if response.status in _REDIRECTS and (location := response.getheader("Location")):
                        return location
                    if response.status != http.client.OK:
                        raise _refusal(parts, f"answered {response.status} {response.reason}")
                    return self._body(parts, response, expired)
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = expired.is_set() or isinstance(error, TimeoutError)
            raise _refusal(parts, "no answer in time" if late else f"cannot fetch: {error}") from error
        finally:
            connection.close()

    def _body(self, parts: SplitResult, response: http.client.HTTPResponse, expired: threading.Event) -> bytes:
        if (response.length or 0) > self.max_bytes:
            raise _refusal(parts, f"{response.length} bytes, the limit is {self.max_bytes}")
        body = bytearray()
        while piece := response.read(_PIECE):
            body += piece
            if len(body) > self.max_bytes:
                raise _refusal(parts, f"more than the limit of {self.max_bytes} bytes")
        if expired.is_set():
            raise _refusal(parts, "no answer in time")
        if response.length:  # read() takes an early end for the end
            raise _refusal(parts, f"the answer ended {response.length} bytes early")
        return bytes(body)


def is_web_url(text: str) -> bool:
    """Whether a string is an http or https address."""
    return text[:8].lower().startswith(("http://", "https://"))


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


def _path(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


@contextmanager
def _cut_at(end: float, sock: socket.socket, expired: threading.Event) -> Iterator[None]:
    """Shuts the socket when the time is over. Its own timeout bounds a single read, and a server that sends a byte a
    second meets it for ever."""

    def cut() -> None:
        expired.set()
        with suppress(OSError):  # it is closed already
            sock.shutdown(socket.SHUT_RDWR)

    watchdog = threading.Timer(max(end - time.monotonic(), 0), cut)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _refusal(parts: SplitResult, message: str) -> UnreadableItemError:
    return UnreadableItemError(f"{parts.scheme}://{parts.hostname}: {message}", "not_fetched")

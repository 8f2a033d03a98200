"""HTTP for `HttpFetcher`: an event loop in its own thread. Each fetch has one deadline for all its steps."""

from __future__ import annotations

import asyncio
import concurrent.futures
import http
import ipaddress
import os
import socket
import ssl
import threading
from typing import Protocol, TypeAlias

import httpx

from tuwen.failures import ItemError

__all__ = ["CheckedTransport", "Fetches", "Rules", "fetches"]

_REDIRECTS = (301, 302, 303, 307, 308)
_AT_ONCE = 64  # the maximum number of concurrent fetches; more wait, within their time limits
_LIMITS = httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=0)
Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"


class Rules(Protocol):
    """The limits of a fetch: size, redirects and allowed hosts. `tuwen.HttpFetcher` satisfies this protocol."""

    @property
    def max_bytes(self) -> int:
        """The maximum size of a body in bytes."""

    @property
    def max_redirects(self) -> int:
        """The maximum number of redirects."""

    @property
    def private(self) -> bool:
        """Whether a host name may resolve to an address of a private network."""

    def allows(self, scheme: str, host: str, port: int | None) -> bool:
        """Return whether a host may be contacted."""


class Fetches:
    """The fetches of this process. They run in an event loop with a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tls = ssl.create_default_context()
        threading.Thread(target=self._loop.run_forever, name="tuwen-fetches", daemon=True).start()

    def start(self, rules: Rules, url: str, seconds: float) -> concurrent.futures.Future[bytes]:
        """Start a fetch and return its future. If the fetch fails, the future raises an `ItemError`.

        Args:
            rules: the limits of the fetch.
            url: the address.
            seconds: the time limit.
        """
        return asyncio.run_coroutine_threadsafe(self._bounded(rules, url, seconds), self._loop)

    async def _bounded(self, rules: Rules, url: str, seconds: float) -> bytes:
        place = ["a web address"]
        try:
            return await asyncio.wait_for(self._fetch(rules, url, place), seconds)
        except asyncio.TimeoutError as error:
            raise ItemError("not_fetched", f"{place[0]}: no response in time") from error

    async def _fetch(self, rules: Rules, url: str, place: list[str]) -> bytes:
        target = _parsed(url)
        async with self._turns:
            transport = CheckedTransport(rules, self._tls)
            # httpx needs no timeouts, because `_bounded` limits the time of the whole fetch.
            async with httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client:  # noqa: S113
                for _ in range(rules.max_redirects + 1):
                    place[0] = f"{target.scheme}://{target.host}"
                    if not rules.allows(target.scheme, target.raw_host.decode(), target.port):
                        raise _refusal(place, "the host is not among the allowed hosts")
                    found = await self._ask(client, rules, target, place)
                    if isinstance(found, bytes):
                        return found
                    target = found
        raise _refusal(place, f"expected at most {rules.max_redirects} redirects, got more")

    async def _ask(
        self, client: httpx.AsyncClient, rules: Rules, target: httpx.URL, place: list[str]
    ) -> bytes | httpx.URL:
        """Request an address, and return the body, or the target of a redirect.

        Raises:
            ItemError: the host cannot be reached, or responds with an error or with too many bytes.
        """
        headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "tuwen"}
        try:
            async with client.stream("GET", target, headers=headers) as response:
                if response.status_code in _REDIRECTS and (location := response.headers.get("Location")):
                    return _parsed(location, target)
                if response.status_code != http.HTTPStatus.OK:
                    raise _refusal(place, f"answered {_status(response.status_code)}")
                return await _body(response, rules, place)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            raise _refusal(place, f"cannot fetch: {_reason(error)}") from error


class CheckedTransport(httpx.AsyncBaseTransport):
    """A transport that resolves a host, checks each of its addresses, and connects only to a checked address.

    httpx alone would look up the name again, and could get another address (DNS rebinding).
    """

    def __init__(self, rules: Rules, tls: ssl.SSLContext) -> None:
        self._rules = rules
        self._inner = httpx.AsyncHTTPTransport(verify=tls, trust_env=False, limits=_LIMITS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Try the addresses of the host in order. The first that accepts a connection gets the request.

        Raises:
            ItemError: an address is not allowed.
            httpx.TransportError: no address can be reached.
        """
        url = request.url
        host = url.raw_host.decode()
        failure: httpx.TransportError | None = None
        for address in await self._addresses(url, host):
            extensions = {**request.extensions, "sni_hostname": host} if host != str(address) else request.extensions
            attempt = httpx.Request(
                request.method, url.copy_with(host=str(address)), headers=request.headers, extensions=extensions
            )
            try:
                return await self._inner.handle_async_request(attempt)
            except httpx.ConnectError as error:
                failure = error
        raise failure or httpx.ConnectError("the host has no address")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _addresses(self, url: httpx.URL, host: str) -> list[Address]:
        try:
            return [ipaddress.ip_address(host)]  # an IP address is in the list of allowed hosts
        except ValueError:
            pass
        found = await _resolved(host)
        for address in found:
            if not self._rules.private and not _public(address):
                raise _refusal(
                    [f"{url.scheme}://{url.host}"], "the host has an address in a private network, which is not allowed"
                )
        return found


async def _resolved(host: str) -> list[Address]:
    """Return the addresses of a host. A look-up cannot be interrupted, so its thread may outlive the fetch."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Address]] = loop.create_future()

    def settle(found: list[Address] | OSError) -> None:
        if answer.done():  # the fetch has ended, such as by its time limit
            return
        if isinstance(found, OSError):
            answer.set_exception(httpx.ConnectError("the host name cannot be resolved"))
        else:
            answer.set_result(found)

    def look_up() -> None:
        found: list[Address] | OSError
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in entries]
        except (OSError, UnicodeError) as error:
            found = error if isinstance(error, OSError) else OSError(str(error))
        loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=look_up, name="tuwen-resolve", daemon=True).start()
    return list(dict.fromkeys(await answer))


def _public(address: Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_global and not address.is_multicast


async def _body(response: httpx.Response, rules: Rules, place: list[str]) -> bytes:
    length = int(response.headers.get("Content-Length", "0"))
    if length > rules.max_bytes:
        raise _refusal(place, f"the response has {length} bytes, the limit is {rules.max_bytes}")
    body = bytearray()
    try:
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > rules.max_bytes:
                raise _refusal(place, f"the response is larger than the limit of {rules.max_bytes} bytes")
    except httpx.RemoteProtocolError as error:
        if length > len(body):
            raise _refusal(place, f"the response ended after {len(body)} of {length} bytes") from error
        raise
    return bytes(body)


def _parsed(url: str, base: httpx.URL | None = None) -> httpx.URL:
    """Return a parsed address without its credentials.

    Args:
        url: an absolute address, or the ``Location`` of a redirect.
        base: the address that redirected; None: `url` is absolute.

    Raises:
        ItemError: the address is invalid. The message shows no part of the address, because it may be secret.
    """
    try:
        target = base.join(url) if base else httpx.URL(url)
        target = target.copy_with(username=None, password=None, fragment=None)
        host = target.host  # raises for an internationalized name that cannot be decoded
    except (httpx.InvalidURL, ValueError) as error:
        raise ItemError(
            "not_fetched", "the web address is invalid; expected http://host/... or https://host/..."
        ) from error
    if target.scheme not in ("http", "https") or not host:
        raise ItemError("not_fetched", "the web address is invalid; expected http://host/... or https://host/...")
    return target


def _status(code: int) -> str:
    try:
        return f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def _reason(error: BaseException) -> str:
    """Return the cause of an error in words that contain no part of the address."""
    seen: set[int] = set()  # two errors can each be the cause of the other
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "the certificate is not valid for this host"
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError):
        return "cannot connect, or the host name cannot be resolved"
    return type(error).__name__


def _refusal(place: list[str], message: str) -> ItemError:
    return ItemError("not_fetched", f"{place[0]}: {message}")


_lock = threading.Lock()
_shared: tuple[int, Fetches] | None = None


def fetches() -> Fetches:
    """Return the fetches of this process. A forked process makes new ones, because threads do not survive a fork."""
    global _shared  # noqa: PLW0603 - one loop for all clients
    with _lock:
        if _shared is None or _shared[0] != os.getpid():
            _shared = (os.getpid(), Fetches())
        return _shared[1]

"""The fetching of images at web addresses. The client needs a fetcher, which contacts only allowed hosts."""

from __future__ import annotations

import concurrent.futures
import importlib.util
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from urllib.parse import urlsplit

from tuwen._errors import InvalidArgumentError, MissingExtraError
from tuwen.failures import ItemError

__all__ = ["HttpFetcher"]

_LONGEST = 86_400.0  # seconds
_GRACE = 1.0  # seconds that the thread of the fetches has to report that the time is over
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class HttpFetcher:
    """A fetcher for images at ``http://`` and ``https://`` addresses (extra ``fetch``). Pass it to a client.

    A user who passes an address decides which host your machine contacts. So the fetcher contacts only the hosts that
    you allow, also after redirects. It uses no proxies, and no credentials from the environment or the address. It
    refuses a host name that resolves to an address of a private network, of this machine or of a cloud's metadata
    service.

    Attributes:
        allow: the allowed hosts, such as ``img.example.com``; ``*.example.com`` for all subdomains; ``host:port`` for
            another port than the scheme's. An IP address in this list may belong to a private network.
        timeout: seconds for one image, including the look-up of its host and all redirects. A fetch never lasts longer
            than the timeout of the call.
        max_bytes: the maximum size of an image in bytes.
        max_redirects: the maximum number of redirects.
        private: whether to allow host names that resolve to addresses of private networks, such as the name of a host
            in your own cluster.

    Raises:
        InvalidArgumentError: `allow` is empty or a single string, or a number is invalid.
        MissingExtraError: httpx is not installed.
    """

    allow: Collection[str]
    timeout: float = 10.0
    max_bytes: int = 32 << 20
    max_redirects: int = 3
    private: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.allow, str) or not self.allow:
            raise InvalidArgumentError('allow: expected a list of hosts, such as ["img.example.com"]')
        if not 0 < self.timeout < inf or self.max_bytes < 1 or self.max_redirects < 0:
            raise InvalidArgumentError("expected timeout and max_bytes above 0, and max_redirects of at least 0")
        if importlib.util.find_spec("httpx") is None:
            raise MissingExtraError("HttpFetcher needs httpx: pip install 'tuwen[fetch]'")

    def fetch(self, url: str, left: float | None = None) -> bytes:
        """Return the bytes at an address.

        Args:
            url: an address with the scheme http or https.
            left: the seconds remaining for the call; None: no limit besides `timeout`.

        Raises:
            ItemError: the host is not allowed, does not respond in time, or responds with an error or with too many
                bytes. The message names the host. It shows no path, query or password, because they may be secret.
        """
        [found] = self.fetch_all([url], left)
        if isinstance(found, ItemError):
            raise found
        return found

    def fetch_all(self, urls: Sequence[str], left: float | None = None) -> list[bytes | ItemError]:
        """Return the bytes at each address, or the error of the fetch, in order. The fetches run concurrently.

        Args:
            urls: addresses with the scheme http or https.
            left: the seconds remaining for the call; None: no limit besides `timeout`.
        """
        from tuwen._http import fetches  # noqa: PLC0415 - httpx is an extra

        seconds = min(self.timeout, _LONGEST if left is None else max(left, 0.0), _LONGEST)
        pending = [fetches().start(self, url, seconds) for url in urls]
        concurrent.futures.wait(pending, timeout=seconds + _GRACE)
        return [_result(url, future) for url, future in zip(urls, pending, strict=True)]

    def allows(self, scheme: str, host: str, port: int | None) -> bool:
        """Return whether a host may be contacted.

        Args:
            scheme: ``http`` or ``https``.
            host: the host in lower case and ASCII (IDNA); an IPv6 address without brackets.
            port: the port; None: the default port of the scheme.
        """
        host = host.rstrip(".")
        shown = f"[{host}]" if ":" in host else host
        names = {f"{shown}:{port or _PORTS[scheme]}"}
        if port in (None, _PORTS[scheme]):
            names |= {host, shown}
        for pattern in map(_ascii, self.allow):
            if pattern in names or (pattern.startswith("*.") and any(name.endswith(pattern[1:]) for name in names)):
                return True
        return False


def _ascii(pattern: str) -> str:
    try:
        return pattern.lower().encode("idna").decode() if not pattern.isascii() else pattern.lower()
    except UnicodeError:
        return pattern.lower()


def _result(url: str, future: concurrent.futures.Future[bytes]) -> bytes | ItemError:
    if not future.done():  # the thread of the fetches is busy
        future.cancel()
        return ItemError("not_fetched", f"{_shown(url)}: no response in time")
    try:
        return future.result()
    except ItemError as error:
        return error
    except (Exception, concurrent.futures.CancelledError) as error:  # libraries raise many types for a hostile response
        return ItemError("not_fetched", f"{_shown(url)}: cannot fetch: {type(error).__name__}")


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}"
    except ValueError:
        return "a web address"

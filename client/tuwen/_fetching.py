"""Images at web addresses: fetched only when a client was given a fetcher, and only from the hosts it allows."""

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
_GRACE = 1.0  # seconds for the loop of the fetches to report that the time is over
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class HttpFetcher:
    """A fetcher with which a client takes ``http://`` and ``https://`` addresses as images (extra ``fetch``).

    Whoever chooses an address chooses what your machine connects to. So only hosts that you name are asked, redirects
    included, and no proxy or credential of the environment or of the address is used. A name that resolves to an
    address of a private network, of this machine or of a cloud's metadata service is refused.

    Attributes:
        allow: hosts, such as ``img.example.com``; ``*.example.com`` for all below it; ``host:port`` where the port
            is not the scheme's own. An IP address may be of a private network; a name may not.
        timeout: seconds for one image, with the look-up of its host and redirects; the timeout of the call bounds it
            as well.
        max_bytes: the largest image.
        max_redirects: how many redirects are followed.
        private: let names resolve to addresses of private networks too, such as a store of your own cluster.

    Raises:
        InvalidArgumentError: no host is allowed, or a number makes no sense.
        MissingExtraError: httpx is not installed.
    """

    allow: Collection[str]
    timeout: float = 10.0
    max_bytes: int = 32 << 20
    max_redirects: int = 3
    private: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.allow, str) or not self.allow:
            raise InvalidArgumentError('allow is a list of hosts, such as ["img.example.com", "*.cdn.example.com"]')
        if not 0 < self.timeout < inf or self.max_bytes < 1 or self.max_redirects < 0:
            raise InvalidArgumentError("timeout is positive and finite, max_bytes positive, max_redirects is 0 or more")
        if importlib.util.find_spec("httpx") is None:
            raise MissingExtraError("HttpFetcher needs httpx: pip install 'tuwen[fetch]'")

    def fetch(self, url: str, left: float | None = None) -> bytes:
        """Return the bytes at an address.

        Args:
            url: of scheme http or https.
            left: seconds that the call has left.

        Raises:
            ItemError: the host is not allowed, does not answer in time, answers with an error or with
                too many bytes. Names the host, never the path, the query or a password, which may be secrets.
        """
        [found] = self.fetch_all([url], left)
        if isinstance(found, ItemError):
            raise found
        return found

    def fetch_all(self, urls: Sequence[str], left: float | None = None) -> list[bytes | ItemError]:
        """Return the bytes at each address, or the reason why there are none, in order; fetched side by side.

        Args:
            urls: of scheme http or https.
            left: seconds that the call has left.
        """
        from tuwen._http import fetches  # noqa: PLC0415 - httpx is an extra

        seconds = min(self.timeout, _LONGEST if left is None else max(left, 0.0), _LONGEST)
        pending = [fetches().start(self, url, seconds) for url in urls]
        concurrent.futures.wait(pending, timeout=seconds + _GRACE)
        return [_result(url, future) for url, future in zip(urls, pending, strict=True)]

    def allows(self, scheme: str, host: str, port: int | None) -> bool:
        """Return whether a host may be asked.

        Args:
            scheme: ``http`` or ``https``.
            host: in lower case and ASCII (IDNA), an IPv6 address without brackets.
            port: None: the scheme's own.
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
    if not future.done():  # the loop of the fetches is busy elsewhere
        future.cancel()
        return ItemError("not_fetched", f"{_shown(url)}: no answer in time")
    try:
        return future.result()
    except ItemError as error:
        return error
    except (Exception, concurrent.futures.CancelledError) as error:  # whatever a library raises at a hostile answer
        return ItemError("not_fetched", f"{_shown(url)}: cannot fetch: {type(error).__name__}")


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}"
    except ValueError:
        return "a web address"

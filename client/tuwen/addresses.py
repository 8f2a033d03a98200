"""Addresses of servers and lines of headers, as people write them on a command line or in a setting."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tuwen._errors import InvalidArgumentError

__all__ = ["bracketed", "headers_of", "is_loopback"]


def headers_of(lines: Iterable[str]) -> dict[str, str]:
    """Headers that were written as ``name: value``; empty lines are nothing.

    Raises:
        InvalidArgumentError: a line has no colon. It is not shown: it may be a secret.
    """
    found = {}
    for line in filter(str.strip, lines):
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidArgumentError("a header is 'name: value'; one of them, or of TUWEN_HEADERS, has no colon")
        found[name.strip().lower()] = value.strip()
    return found


def bracketed(host: str) -> str:
    """Return a host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Return whether a host name or address, an IPv6 address with or without brackets, is this machine's loopback."""
    name = host.removeprefix("[").removesuffix("]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

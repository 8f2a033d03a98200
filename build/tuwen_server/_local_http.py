"""HTTP requests to the embedded server on this machine. They never go through a proxy."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from http.client import HTTPException

__all__ = ["answers", "get", "post"]

# urllib sends even requests to 127.0.0.1 to the proxy that http_proxy names, unless no_proxy lists the address.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str, timeout: float = 2.0) -> bool:
    """Return whether a web address answers with a status of success before the timeout, in seconds."""
    try:
        with _DIRECT.open(url, timeout=timeout) as response:
            return bool(response.status == 200)
    except (OSError, HTTPException):  # urllib's URLError is an OSError; HTTPException: the answer is not HTTP
        return False


def post(url: str, headers: Mapping[str, str], timeout: float) -> bytes:
    """Send an empty JSON object and return the body of the response.

    Args:
        url: the address of the embedded server's HTTP API, with a path.
        headers: the headers of the request, besides its content type.
        timeout: the maximum time in seconds for the connection, and for each part of the response.

    Raises:
        OSError: the connection failed, or the status is not a success.
        HTTPException: the answer is not HTTP.
    """
    return _answer(url, b"{}", {"Content-Type": "application/json", **headers}, timeout)


def get(url: str, headers: Mapping[str, str], timeout: float) -> bytes:
    """Send a GET request and return the body of the response. Arguments and errors are those of `post`."""
    return _answer(url, None, headers, timeout)


def _answer(url: str, content: bytes | None, headers: Mapping[str, str], timeout: float) -> bytes:
    request = urllib.request.Request(url, data=content, headers=dict(headers))  # noqa: S310 - our own http:// address
    with _DIRECT.open(request, timeout=timeout) as response:
        body: bytes = response.read()
        return body

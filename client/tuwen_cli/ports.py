"""The examination of two further ports of a server: Triton's HTTP API, and its metrics."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection, HTTPException

from tuwen import clock
from tuwen_cli.facts import HttpFacts, TextCache

__all__ = ["GRPC_PORT", "HTTP_PORT", "METRICS_PORT", "examine_http", "examine_text_cache"]

GRPC_PORT, HTTP_PORT, METRICS_PORT = 8001, 8000, 8002
"""Triton's default ports."""

_MOST_BYTES = 16 << 20  # of an answer
_PART_BYTES = 64 << 10
_REFUSED = (401, 403, 404, 405)
_READY = (200, 400)  # statuses of Triton's health check: ready, and not ready
_CONTROL = {
    "model-repository": ("POST", "/v2/repository/index"),
    "shared-memory": ("GET", "/v2/systemsharedmemory/status"),
    "trace": ("GET", "/v2/trace/setting"),
    "logging": ("GET", "/v2/logging"),
}
"""The protocols that a key should restrict, each with a request that changes nothing."""

_COUNTER = re.compile(r"^tuwen_text_cache_(hits|misses)_total(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)


def examine_http(host: str, port: int, model: str, timeout: float) -> HttpFacts | None:
    """Return what Triton's HTTP API allows a caller without the key; None if another service uses the port.

    Args:
        host: the name or the address of the server.
        port: the port of the HTTP API.
        model: the full name of an ensemble that the server has.
        timeout: the maximum time in seconds for each request.
    """
    try:
        status, _ = _answer(host, port, "GET", "/v2/health/ready", timeout)
    except OSError:
        return HttpFacts(port, is_open=False)
    except HTTPException:
        return None
    if status not in _READY:
        return None
    # The request has no inputs. Triton answers 403 before it reads the body, or another error after that.
    status_of_inference = _status(host, port, "POST", f"/v2/models/{model}/infer", timeout)
    inference = status_of_inference is not None and status_of_inference not in _REFUSED
    control = tuple(
        name for name, (method, path) in _CONTROL.items() if _status(host, port, method, path, timeout) == 200
    )
    return HttpFacts(port, is_open=True, inference=inference, open_protocols=control)


def examine_text_cache(host: str, port: int, timeout: float) -> TextCache | None:
    """Return the counters of the server's cache of text vectors; None if the metrics contain no such counters.

    Args:
        host: the name or the address of the server.
        port: the port of the metrics.
        timeout: the maximum time in seconds for the request.
    """
    try:
        status, page = _answer(host, port, "GET", "/metrics", timeout)
    except (OSError, HTTPException):
        return None
    counted = {"hits": 0.0, "misses": 0.0}
    found = _COUNTER.findall(page.decode(errors="replace")) if status == 200 else []
    for name, value in found:
        counted[name] += float(value)
    return TextCache(int(counted["hits"]), int(counted["misses"])) if found else None


def _status(host: str, port: int, method: str, path: str, timeout: float) -> int | None:
    """Return the status of an answer; None if there was no answer."""
    try:
        return _answer(host, port, method, path, timeout)[0]
    except (OSError, HTTPException):
        return None


def _answer(host: str, port: int, method: str, path: str, timeout: float) -> tuple[int, bytes]:
    """Return the status and the body of an answer. The request does not go through a proxy.

    Raises:
        OSError: there is no connection, or the answer was not complete after `timeout` seconds.
        HTTPException: the answer is not HTTP.
    """
    deadline = clock.now() + timeout
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        body = json.dumps({}) if method == "POST" else None
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        content = b""
        while (part := response.read1(_PART_BYTES)) and len(content) < _MOST_BYTES:
            content += part
            if clock.now() > deadline:
                raise TimeoutError(f"the answer was not complete after {timeout:g} seconds")
        return response.status, content
    finally:
        connection.close()

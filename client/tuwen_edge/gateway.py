"""The common handling of all requests: request ID, host check, trace, headers for browsers, metrics and log."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuwen.connection import is_own_host
from tuwen_edge.dialects.openai import OPENAI
from tuwen_edge.errors import EdgeError
from tuwen_edge.handlers import error_response
from tuwen_edge.log import RequestLog
from tuwen_edge.metrics import Metrics
from tuwen_edge.traces import Traces

__all__ = ["Gateway", "Hosts", "RequestState"]

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_DISCONNECTED = 499  # nginx's status for a caller that disconnected


@dataclass
class RequestState:
    """The facts about a request for metrics and the log.

    Attributes:
        id: the request ID from the caller, or a new one.
        route: the path of the operation.
        status: the status of the response.
        key: the name of the caller's key.
        code: the code of the error, such as ``overloaded``; empty without an error.
        items: the number of embedded items.
        bytes: the size of the body in bytes.
        is_disconnected: whether the caller disconnected.
        fingerprint: the fingerprint of the embedding space of the model that answered.
    """

    id: str
    route: str = "other"
    status: int = 0
    key: str = ""
    code: str = ""
    items: int = 0
    bytes: int = 0
    is_disconnected: bool = False
    fingerprint: str = ""


class Hosts:
    """The host names under which the edge answers.

    A hostile site can let its name resolve to this machine (DNS rebinding), and then use the edge from a visitor's
    browser. Such a request has the name of that site as its host.

    Args:
        names: additional names; ``*`` allows every name.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(name.lower() for name in names)

    def allow(self, host: str) -> bool:
        """Return whether the edge answers requests for this host. IP addresses are always allowed."""
        return "*" in self._names or is_own_host(host, self._names)


class Gateway:
    """The ASGI application around the routes of the edge.

    Args:
        app: the ASGI application with the routes.
        direct: applications by method and path. They answer their paths before the routes are searched.
        hosts: the host names under which the edge answers.
        fingerprint: a function that returns the fingerprint of the embedding space, or an empty text before the
            fingerprint is known.
        traces: the maker of OpenTelemetry spans; None: requests are not traced.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        direct: Mapping[tuple[str, str], ASGIApp],
        hosts: Hosts,
        fingerprint: Callable[[], str],
        metrics: Metrics,
        log: RequestLog,
        traces: Traces | None,
    ) -> None:
        self._app = app
        self._direct = direct
        self._hosts = hosts
        self._fingerprint = fingerprint
        self._metrics = metrics
        self._log = log
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request, or the start and the end of the server, as ASGI defines it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        state = RequestState(given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex())
        scope.setdefault("state", {})["request"] = state

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                state.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._headers(state)]
            await send(message)

        self._metrics.begin()
        trace_id = ""
        try:
            route = scope["path"] if self._traces is not None else ""
            with self._traces.request(headers, scope["method"], route) if self._traces else nullcontext("") as trace_id:
                await self._guarded(scope, headers, state, receive, sent)
        finally:
            seconds = time.perf_counter() - started
            status = _DISCONNECTED if state.is_disconnected else state.status or 500
            self._metrics.end(state.route, status, seconds, state.bytes)
            if self._log.is_on:
                self._log.answered(self._fields(scope, state, status, seconds, trace_id))

    async def _guarded(self, scope: Scope, headers: Headers, state: RequestState, receive: Receive, send: Send) -> None:
        hosts = headers.getlist("host")
        if len(hosts) == 1 and self._hosts.allow(hosts[0]):
            app = self._direct.get((scope["method"], scope["path"]), self._app)
            await app(scope, receive, send)
            return
        state.code = "unknown_host"
        message = "The service does not answer under this host name; the operator can allow it with --allowed-host."
        response = error_response(OPENAI, EdgeError(400, message, code=state.code), state.id)
        response.headers["connection"] = "close"
        await response(scope, receive, send)

    def _headers(self, state: RequestState) -> list[tuple[bytes, bytes]]:
        found = [(b"x-request-id", state.id.encode()), (b"x-content-type-options", b"nosniff")]
        fingerprint = state.fingerprint or self._fingerprint()
        return [*found, (b"tuwen-fingerprint", fingerprint.encode())] if fingerprint else found

    def _fields(self, scope: Scope, state: RequestState, status: int, seconds: float, trace_id: str) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "request_id": state.id,
            "method": scope["method"],
            "route": state.route,
            "status": status,
            "ms": round(seconds * 1e3, 2),
            "items": state.items,
            "bytes": state.bytes,
        }
        optional = {"key": state.key, "code": state.code, "trace_id": trace_id}
        return fields | {name: value for name, value in optional.items() if value}

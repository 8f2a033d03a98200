"""The handling of a request: check the key, read the body, run the operation, and format errors for its API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tuwen_edge.bodies import BodyLimits, BodyReader, DisconnectedError
from tuwen_edge.errors import EdgeError
from tuwen_edge.forms import FormLimits, read_form
from tuwen_edge.keys import KeyFile, presented_key
from tuwen_edge.log import RequestLog
from tuwen_edge.metrics import Metrics
from tuwen_edge.models import Models
from tuwen_edge.operations import Answer, Call, Dialect, Operation

__all__ = ["Handler", "Shared", "error_response"]

_LARGE = 256 << 10  # JSON of more bytes is parsed in a thread
_FORM_ROOM = 16  # maximum number of a form's parts that are not items
_DRAIN_SECONDS, _DRAIN_BYTES = 2.0, 16 << 20
_JSON = orjson.OPT_SERIALIZE_NUMPY


class Shared:
    """The state that all handlers of an edge share.

    Args:
        models: the models of the embedding server.
        limits: the limits of bodies.
        form_limits: the limits of forms.
        keys: the keys that callers may use; None: no key is required.
        metrics: the Prometheus metrics, which count items and refusals.
        log: the log of requests, and of errors in the edge itself.
    """

    def __init__(
        self,
        models: Models,
        limits: BodyLimits,
        form_limits: FormLimits,
        *,
        keys: KeyFile | None,
        metrics: Metrics,
        log: RequestLog,
    ) -> None:
        self.models = models
        self.limits = limits
        self.form_limits = FormLimits(form_limits.max_parts + _FORM_ROOM, form_limits.max_pixels)
        self.keys = keys
        self.metrics = metrics
        self.log = log


class Handler:
    """The ASGI application of one operation.

    Args:
        operation: the operation to run for each request.
        shared: the state that all handlers share.
    """

    def __init__(self, operation: Operation, shared: Shared) -> None:
        self._operation = operation
        self._shared = shared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, as ASGI defines it."""
        operation, shared = self._operation, self._shared
        state = scope["state"]["request"]
        state.route = operation.path
        call = Call(shared.models.default, shared.models, state.id, scope.get("path_params", {}))
        headers = Headers(scope=scope)
        with BodyReader(receive, headers, shared.limits) as body:
            try:
                if operation.needs_key and shared.keys is not None:
                    state.key = shared.keys.name_of(presented_key(headers))
                response = await self._answered(call, headers, body)
            except EdgeError as error:
                response = self._refused(state, error)
            except DisconnectedError:
                state.is_disconnected = True
                return
            except Exception as error:  # an error in the edge itself: the caller gets no details
                shared.log.failed({"request_id": state.id, "route": operation.path}, error)
                response = self._refused(state, EdgeError(500, "The edge failed on this request.", code="edge_failed"))
            state.bytes = body.size
            state.items = len(call.items)
            state.fingerprint = call.core.fingerprint
            shared.metrics.embedded(call.items)
            for name, value in call.headers.items():
                response.headers[name] = value
            if body.is_complete or operation.method == "GET":
                await response(scope, receive, send)
            else:
                await _refuse_early(response, body, send)

    async def _answered(self, call: Call, headers: Headers, body: BodyReader) -> Response:
        operation = self._operation
        if operation.request is None and operation.of_form is None:
            answer = await operation.run(call)
        else:
            answer = await operation.run(call, await self._request(headers, body))
        if answer is None:
            return Response(status_code=operation.success)
        content = await self._in_thread(len(call.items) > 256, _dumped, answer)
        return Response(content, status_code=operation.success, media_type="application/json")

    async def _request(self, headers: Headers, body: BodyReader) -> BaseModel:
        """Return the request that the body holds, as JSON or as a form."""
        operation = self._operation
        content_type = headers.get("content-type", "")
        media_type = content_type.partition(";")[0].strip().lower()
        try:
            if media_type == "multipart/form-data" and operation.of_form is not None:
                form = await read_form(body.pieces(), content_type, self._shared.form_limits)
                return operation.of_form(form)
            if operation.request is not None and media_type in ("application/json", ""):  # LiteLLM sends no media type
                content = await body.read()
                request: BaseModel = await self._in_thread(
                    len(content) > _LARGE, operation.request.model_validate_json, content
                )
                return request
        except ValidationError as error:
            raise _invalid(error) from None
        known = [("application/json", operation.request), ("multipart/form-data", operation.of_form)]
        shown = " or ".join(name for name, taken in known if taken is not None)
        raise EdgeError(415, f"Content-Type: expected {shown}, got {media_type[:50]!r}.", code="unsupported_media_type")

    async def _in_thread(self, is_large: bool, function: Callable[[Any], Any], argument: Any) -> Any:
        return await asyncio.to_thread(function, argument) if is_large else function(argument)

    def _refused(self, state: Any, error: EdgeError) -> Response:
        state.code = error.code
        self._shared.metrics.refused(error)
        return error_response(self._operation.dialect, error, state.id)


def error_response(dialect: Dialect, error: EdgeError, request_id: str) -> Response:
    """Return the HTTP response for an error, in the form of the given API."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    content = _dumped(dict(dialect.error_body(error, request_id)))
    return Response(content, status_code=error.status, media_type="application/json", headers=headers)


def _dumped(answer: Mapping[str, Any] | Answer) -> bytes:
    return orjson.dumps(answer, option=_JSON)


async def _refuse_early(response: Response, body: BodyReader, send: Send) -> None:
    """Respond before the body was read, read a part of the body, and close the connection.

    If the connection were closed at once, an HTTP client that is still sending would lose the response.
    """
    headers = [*response.raw_headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(response.body), "more_body": True})
    await body.drain(_DRAIN_SECONDS, _DRAIN_BYTES)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _invalid(error: ValidationError) -> EdgeError:
    """Return the error about a request that does not match its pydantic model. The text shows no request values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    # A value of several possible types has an error for each type. The error at the deepest place says most.
    worst = max(found, key=lambda detail: len(detail["loc"]))
    parts = [part for part in worst["loc"] if isinstance(part, int) or part.islower() or "_" in str(part)]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    message = worst["msg"].removeprefix("Value error, ")
    prefix = f"{place[:100]}: " if place else ""
    return EdgeError(400, f"{prefix}{message}.".replace("..", "."), code="invalid_request", param=place[:100] or None)

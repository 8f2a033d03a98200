"""The edge as an ASGI application: its routes, and the state that they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from tuwen import AsyncClient, HttpFetcher, RetryPolicy, TuwenError
from tuwen_edge.bodies import BodyLimits, Memory
from tuwen_edge.core import Core
from tuwen_edge.dialects import OPERATIONS
from tuwen_edge.dialects.openai import OPENAI
from tuwen_edge.errors import EdgeError
from tuwen_edge.forms import FormLimits
from tuwen_edge.gateway import Gateway, Hosts
from tuwen_edge.handlers import Handler, Shared, error_response
from tuwen_edge.keys import KeyFile
from tuwen_edge.log import RequestLog
from tuwen_edge.metrics import Metrics
from tuwen_edge.models import Models
from tuwen_edge.openapi import description
from tuwen_edge.options import EdgeOptions
from tuwen_edge.traces import Traces

__all__ = ["create_app", "create_client"]

_MIB = 1 << 20
_EXPOSED = ("x-request-id", "tuwen-fingerprint", "tuwen-truncated", "retry-after")


def create_client(options: EdgeOptions, model: str | None = None) -> AsyncClient:
    """Return a client of the embedding server, made from the options of the edge.

    Raises:
        InvalidArgumentError: the address, the hosts or the TLS settings are invalid.
        MissingExtraError: an extra is missing.
    """
    fetcher = HttpFetcher(allow=options.fetch_hosts, max_bytes=32 * _MIB) if options.fetch_hosts else None
    return AsyncClient(
        options.url,
        model=options.model if model is None else model,
        timeout=options.timeout,
        tls=options.tls,
        headers=options.headers,
        # The edge does not retry: it tells the caller that the server is busy, and the caller decides whether to retry.
        retries=RetryPolicy(overload_budget=0),
        fetcher=fetcher,
        expected_fingerprint=options.fingerprint if model is None else None,
        tracing=options.tracing,
    )


def create_app(
    options: EdgeOptions, client: AsyncClient | None = None, *, connect: Callable[[str], AsyncClient] | None = None
) -> ASGIApp:
    """Return the edge as an ASGI application, to run it with a server of your own.

    Args:
        options: the options of the edge. The address to listen on is ignored.
        client: the client of the embedding server; None: a new client from the options. The application closes the
            client when it stops.
        connect: a function that takes the name of another model of the server and returns a client of that model.
            Default: if `client` is None, a function that makes clients from the options; otherwise, the application
            serves only the model of `client`.

    Raises:
        InvalidArgumentError: the file of keys cannot be read, or the address, the hosts or the TLS settings are
            invalid.
        MissingExtraError: an extra is missing.
    """
    if client is None:
        client, connect = create_client(options), connect or partial(create_client, options)
    limited = partial(Core, max_items=options.max_items, fetches=bool(options.fetch_hosts))
    core = limited(client, name=options.model_name or options.model or None, aliases=options.aliases)
    models = Models(core, client, connect, lambda client, name: limited(client, name=name))
    keys = KeyFile(options.keys) if options.keys is not None else None
    metrics, log = Metrics(), RequestLog(is_on=options.access_log)
    limits = BodyLimits(options.max_body_mib * _MIB, Memory(options.max_memory_mib * _MIB), options.upload_timeout)
    form_limits = FormLimits(options.max_items, options.max_pixels)
    shared = Shared(models, limits, form_limits, keys=keys, metrics=metrics, log=log)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001 - Starlette passes it
        with suppress(TuwenError):  # the server may start later; until then, requests get status 503
            await client.model_card(timeout=min(2.0, options.timeout))
        yield
        await models.close()
        await client.close()

    app = Starlette(
        routes=_routes(shared, has_keys=keys is not None),
        middleware=_cross_origin(options.allowed_origins),
        exception_handlers={HTTPException: _not_found},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    allowed = ("*",) if keys is not None and not options.allowed_hosts else (options.host, *options.allowed_hosts)
    # Starlette's routing takes a tenth of the edge's time, so operations are looked up directly. With CORS, every
    # request must pass Starlette's middleware.
    direct = {} if options.allowed_origins else _direct(shared)
    return Gateway(
        app,
        direct=direct,
        hosts=Hosts(allowed),
        fingerprint=lambda: models.default.fingerprint,
        metrics=metrics,
        log=log,
        traces=Traces() if options.tracing else None,
    )


def _direct(shared: Shared) -> dict[tuple[str, str], ASGIApp]:
    """Return the handlers of the paths without parameters, by method and path."""
    return {
        (operation.method, operation.path): Handler(operation, shared)
        for operation in OPERATIONS
        if "{" not in operation.path
    }


def _routes(shared: Shared, *, has_keys: bool) -> list[BaseRoute]:
    described = orjson.dumps(description(OPERATIONS, has_keys=has_keys))

    async def openapi(request: Request) -> Response:
        request.state.request.route = "/openapi.json"
        return Response(described, media_type="application/json")

    async def metrics(request: Request) -> Response:
        request.state.request.route = "/metrics"
        return Response(shared.metrics.exposed(), headers={"content-type": shared.metrics.media_type})

    routes: list[BaseRoute] = [
        Route(operation.path, Handler(operation, shared), methods=[operation.method]) for operation in OPERATIONS
    ]
    return [*routes, Route("/openapi.json", openapi), Route("/metrics", metrics)]


def _cross_origin(origins: Sequence[str]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "api-key", "x-api-key", "x-request-id"],
            expose_headers=list(_EXPOSED),
        )
    ]


async def _not_found(request: Request, error: Exception) -> Response:
    """Answer a path that does not exist (404), or a method that a path does not have (405)."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
    message = {
        404: "There is no such path; /openapi.json lists all paths.",
        405: "This path does not have this method; /openapi.json lists its methods.",
    }.get(status, "The request is not valid.")
    response = error_response(OPENAI, EdgeError(status, message, code=code), request.state.request.id)
    for name, value in (getattr(error, "headers", None) or {}).items():
        response.headers[name] = value
    return response

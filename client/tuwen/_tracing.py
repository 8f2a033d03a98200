"""OpenTelemetry: a span for each call, whose context every request carries, so that the server's spans join it.

The context goes in the headers of W3C Trace Context (https://www.w3.org/TR/trace-context), or whatever else the
application has set as its propagator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from tuwen._errors import MissingExtraError

__all__ = ["NoTracing", "OpenTelemetry", "Tracing"]


class Tracing(Protocol):
    """What a client tells of its calls."""

    def span(self, call: str, url: str) -> AbstractContextManager[None]:
        """Around a call."""

    def headers(self) -> Mapping[str, str]:
        """What a request carries of the span that it is sent in."""


class NoTracing:
    """Nothing."""

    def span(self, call: str, url: str) -> AbstractContextManager[None]:  # noqa: ARG002 - a Tracing
        """Around a call."""
        return nullcontext()

    def headers(self) -> Mapping[str, str]:
        """None."""
        return {}


class OpenTelemetry:
    """Spans for whatever tracer provider the application has set; without one they cost next to nothing.

    Raises:
        MissingExtraError: OpenTelemetry's API is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError(f"tracing needs an extra ({error}): pip install 'tuwen[tracing]'") from error
        self._inject = propagate.inject
        self._tracer = trace.get_tracer("tuwen")
        self._kind = trace.SpanKind.CLIENT

    @contextmanager
    def span(self, call: str, url: str) -> Iterator[None]:
        """Around a call; notes the error that it ends with."""
        attributes = {"server.address": url, "rpc.system": "grpc"}
        with self._tracer.start_as_current_span(f"tuwen.{call}", kind=self._kind, attributes=attributes):
            yield

    def headers(self) -> Mapping[str, str]:
        """``traceparent``, and ``tracestate`` if there is one."""
        carrier: dict[str, str] = {}
        self._inject(carrier)
        return carrier

"""Traces: the spans of a request become part of the trace that its caller began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tuwen import MissingExtraError

__all__ = ["Traces"]


class Traces:
    """Spans of requests, for whatever tracer provider the process has.

    Raises:
        MissingExtraError: OpenTelemetry's API is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import propagate, trace  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError(f"tracing needs an extra ({error}): pip install 'tuwen[tracing]'") from error
        self._extract = propagate.extract
        self._trace = trace
        self._tracer = trace.get_tracer("tuwen_edge")

    @contextmanager
    def request(self, headers: Mapping[str, str], method: str, route: str) -> Iterator[str]:
        """Provide the trace's id, in hexadecimal, while a request is answered; empty without a trace.

        Args:
            headers: of the request, with ``traceparent`` if the caller traces.
        """
        attributes = {"http.request.method": method, "http.route": route}
        with self._tracer.start_as_current_span(
            f"{method} {route}",
            context=self._extract(headers),
            kind=self._trace.SpanKind.SERVER,
            attributes=attributes,
        ) as span:
            context = span.get_span_context()
            yield f"{context.trace_id:032x}" if context.is_valid else ""

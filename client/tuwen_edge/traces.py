"""OpenTelemetry traces: the span of a request belongs to the trace of its caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tuwen import MissingExtraError

__all__ = ["Traces"]


class Traces:
    """The maker of a span for each request. The spans go to the tracer provider of the process.

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
        """Open a span for a request, and provide the ID of its trace in hexadecimal; empty without a trace.

        Args:
            headers: the headers of the request, with ``traceparent`` if the caller has a trace.
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

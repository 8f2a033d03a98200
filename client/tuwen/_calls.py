"""What surrounds a call: its span of OpenTelemetry, and the note that it is in flight, for processes that fork."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from tuwen._errors import ForkError, MissingExtraError

__all__ = ["Forks", "NoTracing", "OpenTelemetry", "Tracing", "forks"]


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


class Forks:
    """The calls of this process, and whether it was forked while its parent had calls in flight.

    gRPC survives a fork only when no other thread uses it at that moment; otherwise the child can hang.

    Attributes:
        broken: whether this process was forked while calls were in flight.
    """

    def __init__(self) -> None:
        self.broken = False
        # A set, because adding and discarding are atomic: a lock could itself be held at the moment of a fork.
        self._calls: set[object] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_child)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call, or a stream, as in flight while the block lasts.

        Raises:
            ForkError: as `check`.
        """
        self.check()
        call = object()
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)

    def check(self) -> None:
        """Refuse calls that could hang.

        Raises:
            ForkError: this process was forked while calls were in flight.
        """
        if self.broken:
            raise ForkError(
                f"process {os.getpid()} was forked while its parent had calls in flight, and gRPC can hang after that; "
                "fork before the first call or between calls, or start processes with multiprocessing's 'spawn' or "
                "'forkserver' method"
            )

    def _begin_child(self) -> None:
        self.broken = self.broken or bool(self._calls)
        self._calls.clear()


forks = Forks()
"""Those of this process."""

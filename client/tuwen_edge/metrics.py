"""The Prometheus metrics of the edge: requests, durations, items and refusals, by route."""

from __future__ import annotations

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tuwen.failures import IMAGE_REASONS, TEXT_REASONS
from tuwen_edge.errors import EdgeError
from tuwen_edge.items import Item

__all__ = ["Metrics"]

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_REASONS = sorted({*IMAGE_REASONS, *TEXT_REASONS, "not_fetched", "unreadable"})


class Metrics:
    """The metrics of one edge.

    Attributes:
        media_type: the media type of the text from `exposed`.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter("tuwen_edge_requests", "Answered requests.", ("route", "status"), registry=registry)
        self._seconds = Histogram(
            "tuwen_edge_request_seconds",
            "Time from the first header to the end of the response.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        items = Counter("tuwen_edge_items", "Embedded items.", ("kind",), registry=registry)
        self._images, self._texts = items.labels("image"), items.labels("text")
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._refused = Counter("tuwen_edge_refused_items", "Refused items.", ("reason",), registry=registry)
        for reason in _REASONS:  # Prometheus's rate() sees the first refusal only if the counter was 0 before
            self._refused.labels(reason)
        self._in_flight = Gauge(
            "tuwen_edge_requests_in_flight", "Requests that are not answered yet.", registry=registry
        )
        self._bytes = Counter("tuwen_edge_body_bytes", "Bytes of request bodies that were read.", registry=registry)

    def begin(self) -> None:
        """Count a request as in flight."""
        self._in_flight.inc()

    def end(self, route: str, status: int, seconds: float, body_bytes: int) -> None:
        """Count an answered request.

        Args:
            route: the path of the operation, such as ``/v1/models/{model}``; never a path from a caller.
            status: the status of the response; 499: the caller disconnected.
            seconds: the duration of the request in seconds.
            body_bytes: the size of the request's body in bytes.
        """
        self._in_flight.dec()
        if (route, status) not in self._known:  # one call of labels() costs as much as all the counting
            self._known[route, status] = self._requests.labels(route, str(status)), self._seconds.labels(route)
        requests, durations = self._known[route, status]
        requests.inc()
        durations.observe(seconds)
        self._bytes.inc(body_bytes)

    def embedded(self, items: list[Item]) -> None:
        """Count embedded items."""
        images = sum(item.kind == "image" for item in items)
        if images:
            self._images.inc(images)
        if images < len(items):
            self._texts.inc(len(items) - images)

    def refused(self, error: EdgeError) -> None:
        """Count the refused items that an error names, by reason."""
        for reason, count in Counts(failure.reason for failure in error.items).items():
            self._refused.labels(reason).inc(count)

    def exposed(self) -> bytes:
        """Return the text that Prometheus reads."""
        return generate_latest(self._registry)

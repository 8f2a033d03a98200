"""The requests that wait for an encoder: bulk requests, and requests that are too old where queues have no policy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

__all__ = ["Backlog", "Waiting", "is_bulk"]

_PAUSE = 0.05  # an instance counts as idle after a pause of this many seconds between two batches
_SHED_TO = 0.5  # the share of its allowed wait that a request keeps while requests are shed


class Waiting(Protocol):
    """A request in the form of Triton's Python backend."""

    def parameters(self) -> str:
        """Return the parameters of the request as JSON; empty if it has no parameters."""

    def timeout(self) -> int:
        """Return the request's own limit for waiting, in microseconds; 0 if it has no limit."""


def is_bulk(request: Waiting) -> bool:
    """Return whether a request has the parameter `bulk`. Triton hides its own parameter `priority` from models."""
    return bool(_parameters(request).get("bulk"))


class Backlog:
    """The limit on the waiting time of requests, where Triton's queues have no policy.

    The limit of a request is its own `timeout`, but at most `longest`. The wait begins at the parameter `sent_at`, in
    microseconds since 1970 by the client's clock. A request without the parameter is never rejected. Because two clocks
    may differ, time before this instance became busy does not count: an idle instance rejects nothing.

    Under overload, a fixed limit would make batches small. Triton forms a full batch, in which some requests are too
    old. While the other requests are computed, the next requests become too old. So the first request that is too old
    starts shedding: until the next batch is computed, requests with the same or a shorter limit may wait only half of
    their limit. The later batches are full, until requests are too old again. If half of a limit is shorter than the
    time of a batch, nothing is shed.

    Args:
        longest: the maximum wait in microseconds; 0 turns the limit off.
        clock: a function that returns the time in seconds since 1970.
    """

    def __init__(self, longest: int, clock: Callable[[], float] = time.time) -> None:
        self._longest = longest
        self._clock = clock
        self._now = self._busy_since = self._ended = float("-inf")
        self._took = 0.0  # seconds of the last batch with a computed request
        self._kept = False  # whether the current batch has a computed request
        self._exceeded = 0.0  # seconds: the longest limit that a request exceeded since the last computed batch

    def begin(self) -> None:
        """Record the start of a batch."""
        self._now = self._clock()
        if self._now - self._ended > _PAUSE:
            self._busy_since = self._now
        if self._kept:
            self._exceeded = 0.0
        self._kept = False

    def end(self) -> None:
        """Record the end of a batch."""
        self._ended = self._clock()
        if self._kept:
            self._took = self._ended - self._now

    def refusal(self, request: Waiting) -> str:
        """Return why the request is rejected; empty if it must be computed."""
        why = self._why(request)
        self._kept = self._kept or not why
        return why

    def _why(self, request: Waiting) -> str:
        sent_at = _parameters(request).get("sent_at") if self._longest else None
        if sent_at is None:
            return ""
        waited = self._now - max(int(sent_at) / 1e6, self._busy_since)
        allowed = min(request.timeout() or self._longest, self._longest) / 1e6
        if waited > allowed:
            self._exceeded = max(self._exceeded, allowed)
        elif allowed > self._exceeded or allowed * _SHED_TO < self._took or waited <= allowed * _SHED_TO:
            return ""
        else:
            allowed *= _SHED_TO  # the shorter limit while requests are shed
        return f"Request timeout expired: the request waited {waited:.1f} seconds, {allowed:.1f} were allowed"


def _parameters(request: Waiting) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(request.parameters() or "{}")
    return found

"""How much a client asks of a server at once: items in a request, and requests on their way."""

from __future__ import annotations

from collections.abc import Mapping

from tuwen._card import ModelCard
from tuwen._routes import Kind

__all__ = ["ITEMS_PER_REQUEST", "Pace", "call_pace"]

ITEMS_PER_REQUEST: Mapping[Kind, int] = {"image": 8, "text": 32}
"""The most items of one request. Triton joins requests into batches, so that larger requests gain nothing."""

_CALL_REQUESTS = 4  # of a call, until answers have come: as many as fill a batch of images
_FULL_REQUESTS = 8  # of a call, on their way at most: 64 images or 256 texts, as in a stream's window
_FEWEST_REQUESTS = 2  # one that is computed, and one that waits for its turn
_WORTHWHILE = 1.2  # requests grow while twice the items go this much faster, item by item
_UNNOTICED = 0.05  # seconds: a round trip as short as this bothers nobody
_TOO_FEW, _TOO_MANY = 0.5, 1.0  # requests that wait in the server's queue


class Pace:
    """Keeps a server busy with as few waiting requests as that takes, so that others do not wait behind them.

    The shortest round trip so far is that of a request that waits for nothing. From a longer one follows how many of
    the requests on their way are waiting. Their number is held between a half and one, as TCP Vegas does with packets
    (Brakmo and Peterson 1995); where a round trip is too short to be noticed, it grows to what the window holds.

    A stream begins with small requests, one after the other, and doubles their size as long as the server gains by it:
    a GPU does, a CPU hardly.

    Args:
        kind: of the items.
        window: the most items on their way at once.
        max_batch_size: the most items of one request that the server takes.
        measured: find the size of the requests by trial, as a stream does. A call sends the largest ones at once.

    Attributes:
        size: how many items the next request holds.
        requests: how many requests may be on their way at once.
    """

    def __init__(self, kind: Kind, *, window: int, max_batch_size: int, measured: bool) -> None:
        self._largest = max(1, min(ITEMS_PER_REQUEST[kind], max_batch_size, window))
        self._window = window
        self._measuring = measured
        self._rate = 0.0  # items per second of the trial before
        self._shortest = float("inf")
        self.size = max(1, self._largest // 4) if measured else self._largest
        self.requests = 1 if measured else self._bounded(_CALL_REQUESTS)

    def answered(self, items: int, seconds: float, on_their_way: int) -> None:
        """Learn from an answer.

        Args:
            items: of the request. One that was not full tells nothing.
            seconds: from sending the request to its answer.
            on_their_way: how many requests were unanswered when this one was sent, itself included.
        """
        if items != self.size:
            return
        if self._measuring:
            self._measure(items / max(seconds, 1e-9))
        if self._measuring:
            return
        self._shortest = min(self._shortest, seconds)
        waiting = on_their_way * (1 - self._shortest / seconds) if seconds else 0.0
        if seconds < _UNNOTICED or waiting < _TOO_FEW:
            self.requests = self._bounded(self.requests + 1)
        elif waiting > _TOO_MANY:
            self.requests = self._bounded(self.requests - 1)

    def _measure(self, rate: float) -> None:
        if rate < self._rate * _WORTHWHILE:
            self.size //= 2
        elif self.size * 2 <= self._largest:
            self.size *= 2
            self._rate = rate
            return
        self._measuring = False
        self.requests = self._bounded(_FEWEST_REQUESTS)

    def _bounded(self, requests: int) -> int:
        """As many requests as fit into the window, two at least unless the window is too small for them."""
        return max(1, min(max(requests, _FEWEST_REQUESTS), self._window // self.size))


def call_pace(kind: Kind, card: ModelCard) -> Pace:
    """Return the pace of a call."""
    window = _FULL_REQUESTS * ITEMS_PER_REQUEST[kind]
    return Pace(kind, window=window, max_batch_size=card.max_batch_size, measured=False)

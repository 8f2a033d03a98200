"""The limits of a client: the number of requests in flight, retries, and pauses between retries."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tuwen._errors import InvalidArgumentError, OverloadedError, ServerError, ServerStoppingError
from tuwen._routes import Kind
from tuwen._transport import ModelCard

__all__ = ["ITEMS_PER_REQUEST", "Pace", "RetryBudget", "RetryPolicy", "call_pace", "patient"]

ITEMS_PER_REQUEST: Mapping[Kind, int] = {"image": 8, "text": 32}
"""The most items of one request. Triton joins requests into batches, so that larger requests gain nothing."""

_CALL_REQUESTS = 4  # of a call, until answers have come: as many as fill a batch of images
_FULL_REQUESTS = 8  # of a call, on their way at most: 64 images or 256 texts, as in a stream's window
_FEWEST_REQUESTS = 2  # one that is computed, and one that waits for its turn
_WORTHWHILE = 1.2  # requests grow while twice the items go this much faster, item by item
_UNNOTICED = 0.05  # seconds: a round trip as short as this bothers nobody
_TOO_FEW, _TOO_MANY = 0.5, 1.0  # requests that wait in the server's queue


class Pace:
    """The pace of a call: as few requests in flight as keep the server busy, so that other callers wait less.

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
        """Return the number of requests that fit into the window: at least two, unless the window is too small."""
        return max(1, min(max(requests, _FEWEST_REQUESTS), self._window // self.size))


def call_pace(kind: Kind, card: ModelCard) -> Pace:
    """Return the pace of a call."""
    window = _FULL_REQUESTS * ITEMS_PER_REQUEST[kind]
    return Pace(kind, window=window, max_batch_size=card.max_batch_size, measured=False)


_SHORTEST_ATTEMPT = 0.01  # seconds; in less, a try would only turn the error into a used-up timeout


@dataclass(frozen=True)
class RetryPolicy:
    """The number of attempts of a request, and the pauses between them.

    Only errors whose ``retryable`` is true are tried again: nobody answers, the server is starting or stopping, its
    queue is full. Bad input, a refused key and a used-up timeout are not. The pause before attempt n + 1 is random,
    up to ``first_pause * 2 ** (n - 1)`` ("full jitter": clients that failed together do not come back together), and
    always within the call's timeout.

    Attributes:
        attempts: the most tries of one request, the first included; 1 turns retries off. A server that is stopping
            and so did not take the request counts for none: behind a name with several servers, one that is drained
            would otherwise be met by chance until the attempts are over.
        first_pause, longest_pause: in seconds.
        overload_budget: how many retries of refused requests a client may have open; ten successes earn one
            back. When it is used up, overload errors reach the caller at once: clients that all retry keep a
            full server full.

    Raises:
        InvalidArgumentError: a number that makes no sense.
    """

    attempts: int = 4
    first_pause: float = 0.1
    longest_pause: float = 2.0
    overload_budget: int = 10

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidArgumentError(f"attempts: expected at least 1, got {self.attempts}")
        if not 0 <= self.first_pause <= self.longest_pause:
            raise InvalidArgumentError(
                f"expected first_pause to be at most longest_pause, got {self.first_pause} and {self.longest_pause}"
            )
        if self.overload_budget < 0:
            raise InvalidArgumentError(f"overload_budget: expected 0 or more, got {self.overload_budget}")


def patient(policy: RetryPolicy) -> RetryPolicy:
    """Return the policy of a stream: a request is tried until its timeout, since giving up would end the whole stream.

    Its window bounds what it asks of a full server, and its pauses how often.
    """
    if policy.attempts == 1:
        return policy
    return replace(policy, attempts=sys.maxsize, overload_budget=sys.maxsize)


class RetryBudget:
    """The retry budget that all requests of one client share. It is safe to use from several threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._tokens = float(policy.overload_budget)
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """Earn a tenth of a retry: a request with items was answered."""
        with self._lock:
            self._tokens = min(self._tokens + 0.1, self._policy.overload_budget)

    def spent(self) -> bool:
        """Take one of the retries of refused requests; True: there was none left."""
        with self._lock:
            if self._tokens < 1:
                return True
            self._tokens -= 1
            return False

    def request(self) -> Attempts:
        """Return the retry state of a new request."""
        return Attempts(self._policy, self)


class Attempts:
    """The retry state of one request."""

    def __init__(self, policy: RetryPolicy, budget: RetryBudget) -> None:
        self._policy, self._budget = policy, budget
        self._made = self._counted = 0

    def pause(self, error: ServerError, left: float) -> float | None:
        """Seconds to wait before the next attempt, or None: the error is the caller's.

        Args:
            error: what an attempt failed with.
            left: seconds that the call has left.
        """
        policy = self._policy
        self._made += 1
        self._counted += not isinstance(error, ServerStoppingError)
        if not error.retryable or policy.attempts == 1 or self._counted >= policy.attempts:
            return None
        doubled = policy.first_pause * 2.0 ** min(self._made - 1, 60)
        pause = random.uniform(0, min(policy.longest_pause, doubled))  # noqa: S311
        if pause + _SHORTEST_ATTEMPT > left:
            return None
        if isinstance(error, OverloadedError) and self._budget.spent():
            return None
        return pause

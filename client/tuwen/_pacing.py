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
"""The maximum number of items per request. Triton merges requests into batches, so larger requests gain nothing."""

_CALL_REQUESTS = 4  # in flight when a call begins; four requests fill a batch of images
_FULL_REQUESTS = 8  # the maximum in flight of a call: 64 images or 256 texts, as in a stream's window
_FEWEST_REQUESTS = 2  # one request in the model, and one in the queue
_WORTHWHILE = 1.2  # requests of twice the size must raise the throughput by this factor
_TRIALS = 3  # requests of each size
_UNNOTICED = 0.05  # seconds; shorter round trips do not delay other callers noticeably
_TOO_FEW, _TOO_MANY = 0.5, 1.0  # the number of this client's requests that wait in the server's queue


class Pace:
    """The pace of a call or stream: the size of its requests, and the maximum number of requests in flight.

    The pace keeps the server busy with as few requests as possible, so that other callers wait less. The shortest round
    trip until now counts as the time of a request that did not wait in a queue. From a longer round trip, the pace
    estimates the number of its requests that wait in the queue. The pace keeps this number between 0.5 and 1, as TCP
    Vegas does with packets (Brakmo and Peterson 1995). If round trips are shorter than 50 ms, the number of requests
    grows until the window is full.

    A stream begins with small requests, one after the other. It tries each size three times, and doubles the size as
    long as the best throughput rises. On a GPU, the throughput rises with the size. On a CPU, it hardly rises.

    Args:
        kind: the kind of the items, ``image`` or ``text``.
        window: the maximum number of items in flight.
        max_batch_size: the server's maximum number of items per request.
        measured: whether to find the size of the requests by trial, as a stream does. If false, all requests have the
            largest size, as in a call.

    Attributes:
        size: the number of items of the next request.
        requests: the maximum number of requests in flight.
    """

    def __init__(self, kind: Kind, *, window: int, max_batch_size: int, measured: bool) -> None:
        self._largest = max(1, min(ITEMS_PER_REQUEST[kind], max_batch_size, window))
        self._window = window
        self._measuring = measured
        self._rate = 0.0  # items per second at the previous size
        self._rates: list[float] = []  # items per second at the current size
        self._shortest = float("inf")
        self.size = max(1, self._largest // 4) if measured else self._largest
        self.requests = 1 if measured else self._bounded(_CALL_REQUESTS)

    def answered(self, items: int, seconds: float, on_their_way: int) -> None:
        """Adapt the pace to a response.

        Args:
            items: the number of items of the request. Requests that were not full are ignored.
            seconds: the time from sending the request to its response.
            on_their_way: the number of unanswered requests when this request was sent, including this request.
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
        """Record the rate of one request. After three requests of a size, use the best rate to choose the next size."""
        self._rates.append(rate)
        if len(self._rates) < _TRIALS:
            return
        rate, self._rates = max(self._rates), []
        if rate < self._rate * _WORTHWHILE:
            self.size //= 2
        elif self.size * 2 <= self._largest:
            self.size *= 2
            self._rate = rate
            return
        self._measuring = False
        self.requests = self._bounded(_FEWEST_REQUESTS)

    def _bounded(self, requests: int) -> int:
        """Return the number of requests, limited to the window's size: at least two, if the window has room for two."""
        return max(1, min(max(requests, _FEWEST_REQUESTS), self._window // self.size))


def call_pace(kind: Kind, card: ModelCard) -> Pace:
    """Return the pace of a call, which begins with requests of the largest size."""
    window = _FULL_REQUESTS * ITEMS_PER_REQUEST[kind]
    return Pace(kind, window=window, max_batch_size=card.max_batch_size, measured=False)


_SHORTEST_ATTEMPT = 0.01  # seconds; a shorter attempt would only replace the error by an expired timeout


@dataclass(frozen=True)
class RetryPolicy:
    """The number of attempts of a request, and the pauses between them.

    A request is tried again only after errors whose ``retryable`` is true: the server does not respond, is starting or
    stopping, or its queue is full. Invalid input, a refused key or an expired timeout causes no retry. The pause before
    attempt n + 1 is random, up to ``first_pause * 2 ** (n - 1)``. The random pause ("full jitter") spreads the retries
    of clients that failed together. Pauses stay within the call's timeout.

    Attributes:
        attempts: the maximum number of attempts of one request, including the first; 1 turns retries off. An attempt
            that a stopping server rejected does not count: if a name resolves to several servers, a request may
            reach the same stopping server several times by chance.
        first_pause: the maximum length of the first pause, in seconds.
        longest_pause: the maximum length of every pause, in seconds.
        overload_budget: the maximum number of retries after overload; every ten successes allow one more. If the
            budget is used up, overload errors are raised at once, because retries would keep a full server full.

    Raises:
        InvalidArgumentError: a number is invalid.
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
                "expected 0 <= first_pause <= longest_pause, "
                f"got first_pause={self.first_pause} and longest_pause={self.longest_pause}"
            )
        if self.overload_budget < 0:
            raise InvalidArgumentError(f"overload_budget: expected 0 or more, got {self.overload_budget}")


def patient(policy: RetryPolicy) -> RetryPolicy:
    """Return the retry policy of a stream. A request is tried until its timeout, because a failure ends the stream.

    The window and the pauses limit the load of these retries on a full server.

    Args:
        policy: the retry policy of the client. If the policy allows only one attempt, the stream makes no retries.
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
        """Add a tenth of a retry to the budget. Call this method after each response with embeddings."""
        with self._lock:
            self._tokens = min(self._tokens + 0.1, self._policy.overload_budget)

    def spent(self) -> bool:
        """Take one retry from the budget, and return False. If none is left, return True."""
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
        """Return the seconds to wait before the next attempt; None if the error must be raised.

        Args:
            error: the error of the last attempt.
            left: the seconds remaining for the call.
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

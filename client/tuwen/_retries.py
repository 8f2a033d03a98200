"""When a failed request is tried again, and how patiently: the one place that decides."""

from __future__ import annotations

import random
import sys
import threading
from dataclasses import dataclass, replace

from tuwen._errors import InvalidArgumentError, OverloadedError, ServerError, ServerStoppingError

__all__ = ["RetryBudget", "RetryPolicy", "patient"]

_SHORTEST_ATTEMPT = 0.01  # seconds; in less, a try would only turn the error into a used-up timeout


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is tried, and how long the pauses between are.

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
            raise InvalidArgumentError(f"a request is tried at least once, not {self.attempts} times")
        if not 0 <= self.first_pause <= self.longest_pause:
            raise InvalidArgumentError(
                f"pauses grow from first_pause to longest_pause, not from {self.first_pause} to {self.longest_pause}"
            )
        if self.overload_budget < 0:
            raise InvalidArgumentError(f"an overload budget is 0 or more, not {self.overload_budget}")


def patient(policy: RetryPolicy) -> RetryPolicy:
    """The policy of a stream: a request is tried until its timeout, since giving up would end the whole stream.

    Its window bounds what it asks of a full server, and its pauses how often.
    """
    if policy.attempts == 1:
        return policy
    return replace(policy, attempts=sys.maxsize, overload_budget=sys.maxsize)


class RetryBudget:
    """What a client has left of its policy; safe to share between threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._tokens = float(policy.overload_budget)
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """A request was answered."""
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
        """For a new request."""
        return Attempts(self._policy, self)


class Attempts:
    """Those of one request."""

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

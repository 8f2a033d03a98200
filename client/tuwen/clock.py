"""The clock of all deadlines and pauses. Tests can replace it by a clock that they control.

This module satisfies the protocol `Clock`.
"""

from __future__ import annotations

import asyncio
import math
import time
from numbers import Real
from typing import Protocol

from tuwen._errors import DeadlineExceededError, InvalidArgumentError

__all__ = ["Clock", "Deadline", "async_pause", "now", "pause", "wall"]


class Clock(Protocol):
    """A clock that never goes back, and a way to wait."""

    def now(self) -> float:
        """Return a time in seconds. Only differences of such times have a meaning."""

    def pause(self, seconds: float) -> None:
        """Wait in this thread."""


def now() -> float:
    """Return a time in seconds that never goes back. Only differences of such times have a meaning."""
    return time.monotonic()


def wall() -> float:
    """Return the seconds since 1970, which can be compared with the clock of another process."""
    return time.time()


def pause(seconds: float) -> None:
    """Wait in this thread."""
    time.sleep(seconds)


async def async_pause(seconds: float) -> None:
    """Wait in this task, without blocking the event loop."""
    await asyncio.sleep(seconds)


# Seconds in a year. gRPC and Triton count in small units, which sys.maxsize seconds ("no limit") would overflow.
_LONGEST = 365 * 86_400.0


class Deadline:
    """A deadline that counts from its creation. A timeout of more than a year counts as a year.

    Raises:
        InvalidArgumentError: the timeout is not a positive, finite number of seconds.
    """

    def __init__(self, timeout: float) -> None:
        given: object = timeout
        if not isinstance(given, Real) or not 0 < timeout < math.inf:
            raise InvalidArgumentError(f"timeout: expected a positive number of seconds, got {timeout!r}")
        self._timeout = float(min(timeout, _LONGEST))
        self._end = now() + self._timeout

    def left(self) -> float:
        """Return the seconds remaining; zero or negative once the deadline has passed."""
        return self._end - now()

    def remaining(self) -> float:
        """Return the seconds remaining.

        Raises:
            DeadlineExceededError: the deadline has passed.
        """
        left = self.left()
        if left <= 0:
            raise DeadlineExceededError(f"the call took longer than its timeout of {self._timeout:g} seconds")
        return left

"""The clock of all deadlines and pauses, as functions of this module. Tests can replace these functions.

The module itself satisfies the protocol `Clock`, so it can be passed as a clock.
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
    """The protocol of a clock that never goes back and that can wait."""

    def now(self) -> float:
        """Return a time in seconds. Only the difference of two such times has a meaning."""

    def pause(self, seconds: float) -> None:
        """Block this thread for a number of seconds."""


def now() -> float:
    """Return a time in seconds that never goes back. Only the difference of two such times has a meaning."""
    return time.monotonic()


def wall() -> float:
    """Return the seconds since 1970. Other processes can compare this time with their own clock."""
    return time.time()


def pause(seconds: float) -> None:
    """Block this thread for a number of seconds."""
    time.sleep(seconds)


async def async_pause(seconds: float) -> None:
    """Suspend this task for a number of seconds, without blocking the event loop."""
    await asyncio.sleep(seconds)


# Seconds in a year. A caller without a limit may pass sys.maxsize; in small units, gRPC and Triton would overflow.
_LONGEST = 365 * 86_400.0


class Deadline:
    """A deadline, at the end of a timeout that begins when the object is created.

    Args:
        timeout: the timeout in seconds. More than a year counts as a year.

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

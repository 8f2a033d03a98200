"""One time budget for a whole call, however many requests it takes."""

from __future__ import annotations

import math
from numbers import Real

from tuwen import _clock
from tuwen._errors import DeadlineExceededError, InvalidArgumentError

__all__ = ["Deadline"]

# Seconds in a year. gRPC and Triton count in small units, which sys.maxsize seconds ("no limit") would overflow.
_LONGEST = 365 * 86_400.0


class Deadline:
    """Counts down from the moment it is made. A timeout of more than a year is a year.

    Raises:
        InvalidArgumentError: the timeout is not a positive, finite number of seconds.
    """

    def __init__(self, timeout: float) -> None:
        given: object = timeout
        if not isinstance(given, Real) or not 0 < timeout < math.inf:
            raise InvalidArgumentError(f"a timeout is a positive number of seconds, not {timeout!r}")
        self._timeout = float(min(timeout, _LONGEST))
        self._end = _clock.now() + self._timeout

    def left(self) -> float:
        """Seconds left; none, or fewer, when it has passed."""
        return self._end - _clock.now()

    def remaining(self) -> float:
        """Seconds left.

        Raises:
            DeadlineExceededError: none are.
        """
        left = self.left()
        if left <= 0:
            raise DeadlineExceededError(f"the call took longer than its timeout of {self._timeout:g} seconds")
        return left

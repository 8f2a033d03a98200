"""One time budget for a whole call, however many requests it takes."""

from __future__ import annotations

import math

from tuwen import _clock
from tuwen._errors import DeadlineExceededError, InvalidArgumentError

__all__ = ["Deadline"]


class Deadline:
    """Counts down from the moment it is made.

    Raises:
        InvalidArgumentError: the timeout is not a positive, finite number of seconds.
    """

    def __init__(self, timeout: float) -> None:
        if not (0 < timeout < math.inf):
            raise InvalidArgumentError(f"a timeout is a positive number of seconds, not {timeout}")
        self._timeout = timeout
        self._end = _clock.now() + timeout

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

"""A clock that a test moves itself."""

from __future__ import annotations

import asyncio

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that stands still until the code under test pauses, or the test sets `time`.

    Attributes:
        time: the current time of the clock, in seconds.
        pauses: the length of every pause so far, in seconds and in order. A pause takes no real time.
    """

    def __init__(self) -> None:
        self.time = 1000.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds

    async def async_pause(self, seconds: float) -> None:
        self.pause(seconds)
        await asyncio.sleep(0)

"""A clock that a test moves itself."""

from __future__ import annotations

import asyncio

__all__ = ["ManualClock"]


class ManualClock:
    """A clock that stands still except while somebody pauses, or when the test moves it.

    Attributes:
        time: what the clock shows, in seconds.
        pauses: the length of every pause, in order. A pause takes no real time.
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

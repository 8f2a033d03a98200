"""The clock of deadlines and pauses, in one place, so that tests can replace it with one that they move."""

from __future__ import annotations

import asyncio
import time

__all__ = ["async_pause", "now", "pause", "wall"]


def now() -> float:
    """Return a time in seconds that never goes back; only differences mean anything."""
    return time.monotonic()


def wall() -> float:
    """Return the seconds since 1970, to be compared with the clock of another process."""
    return time.time()


def pause(seconds: float) -> None:
    """Wait in this thread."""
    time.sleep(seconds)


async def async_pause(seconds: float) -> None:
    """Wait in this task; the event loop runs on."""
    await asyncio.sleep(seconds)

"""The clock that the server's supervision reads and waits by."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """A monotonic clock and a way to wait. Tests replace it, so that no test waits for real time to pass."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; the value never goes backwards."""

    def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        """Return the seconds of `time.monotonic`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait as `time.sleep` does."""
        time.sleep(seconds)

"""Restarting a server that fails, a limited number of times."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tuwen import clock as system_clock
from tuwen.clock import Clock
from tuwen_server._embedded import EmbeddedServer
from tuwen_server.errors import ServeError

__all__ = ["supervise"]

_POLL_SECONDS = 0.2
_REFRESH_SECONDS = 1.0  # between two checks of the folders of repositories
_WINDOW_SECONDS = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 30.0


def supervise(server: EmbeddedServer, *, restarts: int, say: Callable[[str], None], clock: Clock | None = None) -> None:
    """Watch a running server until an interrupt, and restart it on the same ports when it fails.

    Repositories that are new or were replaced are laid out, so that they can be loaded.

    A start can fail for lack of memory or disk, or while the files are being replaced. The start is then tried again
    after a pause of 2, 4, 8... seconds.

    Args:
        server: a running server.
        restarts: the maximum number of restarts within ten minutes. More restarts would not help.
        say: a function that is called with a sentence about each event.
        clock: the clock for checks, pauses and the ten minutes. Tests replace it.

    Raises:
        ServeError: the server failed once more after the last allowed restart.
        KeyboardInterrupt: the interrupt is passed on.
    """
    clock = clock or system_clock
    recent: deque[float] = deque()
    refreshed = clock.now()
    while True:
        clock.pause(_POLL_SECONDS)
        if clock.now() - refreshed >= _REFRESH_SECONDS:
            refreshed = clock.now()
            for line in server.refresh():
                say(line)
        trouble, pause = server.trouble(), _FIRST_PAUSE
        while trouble is not None:
            _count(recent, clock.now(), restarts, trouble)
            say(f"{trouble}\nstarting again")
            start = clock.now()
            try:
                server.restart()
            except ServeError as error:
                trouble = str(error)
                clock.pause(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                trouble = None
                say(f"ready again after {clock.now() - start:.1f} s")


def _count(recent: deque[float], now: float, restarts: int, trouble: str) -> None:
    """Count a restart, or raise if there were too many in the last ten minutes."""
    while recent and now - recent[0] > _WINDOW_SECONDS:
        recent.popleft()
    if len(recent) >= restarts:
        again = f" ({restarts} restarts within ten minutes did not help)" if restarts else ""
        raise ServeError(f"{trouble}{again}")
    recent.append(now)

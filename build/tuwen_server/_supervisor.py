"""Start a server again that has died, but not for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tuwen import clock as system_clock
from tuwen.clock import Clock
from tuwen_server._embedded import EmbeddedServer
from tuwen_server.errors import ServeError

__all__ = ["supervise"]

_POLL_SECONDS = 0.2
_WINDOW_SECONDS = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 30.0


def supervise(server: EmbeddedServer, *, restarts: int, say: Callable[[str], None], clock: Clock | None = None) -> None:
    """Watch a running server until an interrupt, and start it again on the same ports when something is wrong.

    One that does not start, for want of memory or disk or because its files are just being replaced, is tried again
    after a pause of 2, 4, 8... seconds.

    Args:
        server: it runs.
        restarts: the most tries within ten minutes; what needs more has a cause that a restart does not mend.
        say: is told what happens.
        clock: paces the looks at the server, the pauses and the ten minutes; tests replace it.

    Raises:
        ServeError: it needed one too many.
        KeyboardInterrupt: as it came.
    """
    clock = clock or system_clock
    recent: deque[float] = deque()
    while True:
        clock.pause(_POLL_SECONDS)
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
    """One restart more, unless there were too many lately."""
    while recent and now - recent[0] > _WINDOW_SECONDS:
        recent.popleft()
    if len(recent) >= restarts:
        again = f" ({restarts} restarts within ten minutes have not mended it)" if restarts else ""
        raise ServeError(f"{trouble}{again}")
    recent.append(now)

"""Start a server again that has died, but not for ever."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from tuwen import ServeError
from tuwen_build.server._embedded import EmbeddedServer

__all__ = ["supervise"]

_POLL_SECONDS = 0.2
_WINDOW_SECONDS = 600.0


def supervise(server: EmbeddedServer, *, restarts: int, say: Callable[[str], None]) -> None:
    """Watch a running server until an interrupt, and start it again on the same ports when something is wrong.

    Args:
        server: it runs.
        restarts: the most within ten minutes; one that dies more often has a cause that a restart does not mend.
        say: is told what happens.

    Raises:
        ServeError: it died once too often.
        KeyboardInterrupt: as it came.
    """
    recent: deque[float] = deque()
    while True:
        time.sleep(_POLL_SECONDS)
        trouble = server.trouble()
        if trouble is None:
            continue
        now = time.monotonic()
        while recent and now - recent[0] > _WINDOW_SECONDS:
            recent.popleft()
        if len(recent) >= restarts:
            again = f" ({restarts} restarts within ten minutes have not mended it)" if restarts else ""
            raise ServeError(f"{trouble}{again}")
        recent.append(now)
        say(f"{trouble}\nstarting again")
        server.restart()
        say(f"ready again after {time.monotonic() - now:.1f} s")

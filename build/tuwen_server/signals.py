"""Signals that end a command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["stop_on_signals"]

_ENDING = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C: raise KeyboardInterrupt.

    A server is then drained, and temporary files are removed, before the command ends.

    An ignored signal, such as SIGHUP under nohup, stays ignored. Outside the main thread, the function does nothing,
    because Python delivers signals to the main thread.
    """
    before = {}
    for name in _ENDING if threading.current_thread() is threading.main_thread() else ():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

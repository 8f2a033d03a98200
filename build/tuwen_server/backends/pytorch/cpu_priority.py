"""The CPU priority of threads: lower while a model loads, and while an encoder computes bulk requests.

This module does not import torch, because the import of torch itself has a low priority.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    import torch

__all__ = ["CpuPriority", "in_background"]

# Levels of niceness. While another encoder computes, a loading thread gets a tenth of a core. A bulk request gets a
# quarter of a core, so that the request ends soon.
_LOADING, _BULK = 10, 5
_NICEST = 19

P = ParamSpec("P")
T = TypeVar("T")


def in_background(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function in a thread of low priority, and return its result.

    On Linux, each thread has its own niceness, and the threads that it starts (OpenMP) inherit the value. The calling
    thread, which later computes the requests, keeps its priority, because raising a priority again needs privileges.
    """
    with ThreadPoolExecutor(1, initializer=_lower_priority) as executor:
        return executor.submit(function, *arguments, **named).result()


class CpuPriority:
    """The CPU priority of an encoder's process, which is lower while the encoder computes bulk requests.

    On Linux, each thread has its own niceness, so the niceness of all threads is set: an OpenMP team takes part in each
    computation. Two teams with different niceness would be slower, because libgomp stops spinning when its threads
    outnumber the processors.

    A process may raise its priority again only with CAP_SYS_NICE or a high enough RLIMIT_NICE (man 2 setpriority;
    `LimitNICE=0` of systemd, `--ulimit nice=20` of Docker). Without these
    rights, and on a GPU, the priority is never lowered.

    Args:
        device: the device of the encoder.

    Attributes:
        can_change: whether the priority is lowered for bulk requests.
    """

    def __init__(self, device: torch.device) -> None:
        self._usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
        self._low = min(self._usual + _BULK, _NICEST)
        self.can_change = device.type == "cpu" and sys.platform == "linux" and self._may_return()

    @contextmanager
    def lowered(self) -> Iterator[None]:
        """Lower the priority of all threads for the time of a `with` block."""
        if not self.can_change:
            yield
            return
        _set_niceness(self._low)
        try:
            yield
        finally:
            _set_niceness(self._usual)

    def _may_return(self) -> bool:
        """Return whether a thread that lowered its priority may raise it again. A temporary thread tries this."""
        allowed = []

        def attempt() -> None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._low)
            with suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._usual)
                allowed.append(True)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        return bool(allowed)


def _set_niceness(niceness: int) -> None:
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # the thread has ended meanwhile
            os.setpriority(os.PRIO_PROCESS, int(thread), niceness)


def _lower_priority() -> None:
    with suppress(OSError):  # a sandbox may forbid the system call; the function then runs with the normal priority
        os.nice(_LOADING)

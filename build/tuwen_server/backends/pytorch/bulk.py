"""Computing bulk requests with a lower CPU priority than all other requests."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import torch

__all__ = ["CpuPriority", "is_bulk"]

_LOWERED_BY = 5  # levels of niceness: about a quarter of a core while another encoder computes, so bulk requests do end
_NICEST = 19


class WithParameters(Protocol):
    """A request in the form of Triton's Python backend."""

    def parameters(self) -> str:
        """Return the parameters of the request as JSON; empty if the request has no parameters."""


def is_bulk(request: WithParameters) -> bool:
    """Return whether a request has the parameter `bulk`. Triton hides its own parameter `priority` from models."""
    return bool(json.loads(request.parameters() or "{}").get("bulk"))


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
        self._low = min(self._usual + _LOWERED_BY, _NICEST)
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

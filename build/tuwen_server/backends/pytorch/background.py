"""Calling a function with low priority, so that loading a model does not slow down the loaded models."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

__all__ = ["in_background"]

_NICENESS = 10  # added to the niceness of the process; a thread of niceness 0 then gets nine times the time

P = ParamSpec("P")
T = TypeVar("T")


def in_background(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function in a thread of low priority, and return its result.

    On Linux, each thread has its own niceness, and the threads that it starts (OpenMP) inherit the value. The calling
    thread, which later computes the requests, keeps its priority, because raising a priority again needs privileges.
    """
    with ThreadPoolExecutor(1, initializer=_lower_priority) as executor:
        return executor.submit(function, *arguments, **named).result()


def _lower_priority() -> None:
    with suppress(OSError):  # a sandbox may forbid the system call; the function then runs with the normal priority
        os.nice(_NICENESS)

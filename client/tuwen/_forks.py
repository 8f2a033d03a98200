"""Forks of a process that calls: its threads, and the locks that they hold, do not exist in the child."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tuwen._errors import ForkError

__all__ = ["Forks", "forks"]


class Forks:
    """The calls of this process, and whether it was forked while its parent had calls in flight.

    gRPC survives a fork only when no other thread uses it at that moment; otherwise the child can hang.

    Attributes:
        broken: whether this process was forked while calls were in flight.
    """

    def __init__(self) -> None:
        self.broken = False
        # A set, because adding and discarding are atomic: a lock could itself be held at the moment of a fork.
        self._calls: set[object] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_child)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call, or a stream, as in flight while the block lasts.

        Raises:
            ForkError: as `check`.
        """
        self.check()
        call = object()
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)

    def check(self) -> None:
        """Refuse calls that could hang.

        Raises:
            ForkError: this process was forked while calls were in flight.
        """
        if self.broken:
            raise ForkError(
                f"process {os.getpid()} was forked while its parent had calls in flight, and gRPC can hang after that; "
                "fork before the first call or between calls, or start processes with multiprocessing's 'spawn' or "
                "'forkserver' method"
            )

    def _begin_child(self) -> None:
        self.broken = self.broken or bool(self._calls)
        self._calls.clear()


forks = Forks()
"""Those of this process."""

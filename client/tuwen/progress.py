"""A progress bar that is quiet where nobody would see it."""

from __future__ import annotations

from collections.abc import Sized
from contextlib import AbstractContextManager
from typing import Protocol, cast

from tqdm import tqdm

__all__ = ["Bar", "progress_bar"]


class Bar(Protocol):
    """What of `tqdm` is used here; it publishes no types."""

    def update(self) -> None:
        """One more is done."""


def progress_bar(items: object, *, shown: bool) -> AbstractContextManager[Bar]:
    """A bar on standard error, if that is a terminal; with an end, if the number of items is known."""
    total = len(items) if isinstance(items, Sized) else None
    bar = tqdm(total=total, unit=" items", disable=None if shown else True, smoothing=0.05)
    return cast("AbstractContextManager[Bar]", bar)

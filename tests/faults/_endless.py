"""An endless stream of pictures and an endless stream of texts, whose results are checked as they arrive."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.faults.images import good_images
from tests.faults.texts import good_texts
from tuwen import AsyncClient, Client, ItemOutcome

__all__ = ["Endless"]

_DISTINCT = 200
_TOLERANCE = 2e-5
_WINDOW = 32


class Endless:
    """Two endless streams that run until the context manager exits, each in its own thread.

    `Client` streams the pictures, and `AsyncClient` the texts.

    Attributes:
        wrong: descriptions of the faults: lost, repeated, reordered or wrong results, and streams that ended.
    """

    def __init__(self, url: str, *, timeout: float = 180) -> None:
        self._url, self._timeout = url, timeout
        self._pictures, self._texts = good_images(_DISTINCT, seed=3), good_texts(_DISTINCT, seed=3)
        self._stop = threading.Event()
        self._given, self._answered = {"image": 0, "text": 0}, {"image": 0, "text": 0}
        self._last: dict[str, float] = {}
        self._longest: dict[str, float] = {}
        self.wrong: list[str] = []

    def __enter__(self) -> Endless:
        with Client(self._url, timeout=60) as clip:
            self._expected = {"image": clip.embed_images(self._pictures), "text": clip.embed_texts(self._texts)}
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,)) for work in (self._images, self._asynchronous_texts)
        ]
        self.calm()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for name, given in self._given.items():
            if self._answered[name] != given:
                self.wrong.append(f"{given} {name}s were sent, {self._answered[name]} results came back")

    @property
    def answered(self) -> int:
        """The number of results that both streams have yielded."""
        return sum(self._answered.values())

    def calm(self) -> None:
        """Start measuring outages anew: forget every pause between results so far."""
        now = time.monotonic()
        self._last, self._longest = dict.fromkeys(self._given, now), dict.fromkeys(self._given, 0.0)

    def outage(self) -> float:
        """Return the longest time since `calm` in which one of the streams had no result, in seconds."""
        now = time.monotonic()
        return max(max(self._longest[name], now - last) for name, last in self._last.items())

    def flows(self, seconds: float) -> bool:
        """Wait until both streams yield results again. Return False if that takes longer than the given seconds."""
        before, deadline = dict(self._answered), time.monotonic() + seconds
        while time.monotonic() < deadline and all(thread.is_alive() for thread in self._threads):
            # More results than the requests that were in flight before the wait.
            if all(count > before[name] + _WINDOW for name, count in self._answered.items()):
                return True
            time.sleep(0.05)
        return False

    def _items(self, kind: str, values: list[Any]) -> Iterator[Any]:
        while not self._stop.is_set():
            number = self._given[kind]
            self._given[kind] += 1
            yield number, values[number % _DISTINCT]

    def _images(self) -> None:
        with Client(self._url, timeout=self._timeout) as clip:
            for outcome in clip.stream_images(self._items("image", self._pictures), window=_WINDOW):
                self._take("image", outcome)

    def _asynchronous_texts(self) -> None:
        async def all_of_them() -> None:
            async with AsyncClient(self._url, timeout=self._timeout) as clip:
                async for outcome in clip.stream_texts(self._items("text", self._texts), window=_WINDOW):
                    self._take("text", outcome)

        asyncio.run(all_of_them())

    def _take(self, kind: str, outcome: ItemOutcome) -> None:
        number, now = self._answered[kind], time.monotonic()
        self._answered[kind] += 1
        self._longest[kind] = max(self._longest[kind], now - self._last[kind])
        self._last[kind] = now
        if outcome.key != number:
            self.wrong.append(f"expected the result of {kind} {number}, got that of {kind} {outcome.key}")
        elif not self._right(outcome.embedding, self._expected[kind][number % _DISTINCT]):
            self.wrong.append(f"{kind} {number}: {outcome.error or 'a wrong vector'}")

    def _right(self, found: NDArray[np.float32] | None, expected: NDArray[np.float32]) -> bool:
        return found is not None and float(np.abs(found - expected).max()) < _TOLERANCE

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except Exception as error:
            self.wrong.append(f"a stream ended: {type(error).__name__}: {error}")

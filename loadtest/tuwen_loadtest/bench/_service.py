"""The contestant tuwen: a running service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuwen import AsyncClient, Client, RetryPolicy
from tuwen.statistics import difference
from tuwen_loadtest._usage import usage_of
from tuwen_loadtest.bench._results import Lone, Saturated, Start, Step
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server.traffic import CALLERS, Answers, Work, saturate, send_at
from tuwen_server.tuning import ENCODERS

__all__ = ["Service", "service"]

_TIMEOUT = 60.0
_FILLING = 0.4  # of an offered rate's time, in which the queue grows to the length that it will have
_ONCE = RetryPolicy(attempts=1)


class Service:
    """A running server.

    Attributes:
        start: the time and memory of its start.
    """

    def __init__(self, server: EmbeddedServer, clip: Client, work: Work, start: Start) -> None:
        self._server, self._clip, self._work, self.start = server, clip, work, start

    def alone(self, kind: str, *, seconds: float) -> Lone:
        """Measure one caller."""
        ask = self._work.ask(kind, self._clip)
        saturate(ask, concurrency=1, seconds=seconds / 4, warmup=0)
        before = self._clip.statistics()
        answers = saturate(ask, concurrency=1, seconds=seconds, warmup=0)
        done = difference(self._clip.statistics(), before)[ENCODERS[kind]]
        return Lone(answers, done.compute_seconds / done.requests)

    def cached(self, *, seconds: float) -> Answers:
        """Measure one caller that repeats a text that is in the server's cache."""
        return saturate(lambda: self._clip.embed_texts(["一只猫"]), concurrency=1, seconds=seconds, warmup=seconds / 4)

    def saturated(self, kind: str, *, seconds: float, warmup: float) -> Saturated:
        """Measure as many callers as saturate the service."""
        before, used = self._clip.statistics(), usage_of(self._server.pid).cpu_seconds
        answers = saturate(self._work.ask(kind, self._clip), concurrency=CALLERS[kind], seconds=seconds, warmup=warmup)
        cpu = usage_of(self._server.pid).cpu_seconds - used
        done = difference(self._clip.statistics(), before)[ENCODERS[kind]]
        return Saturated(answers, done.mean_batch_size, cpu / max(1, done.items))

    def offered(self, kind: str, load: float, *, capacity: float, seconds: float) -> Step:
        """Measure an offered rate, a multiple of the capacity, in an open loop."""
        return asyncio.run(self._offered(kind, load, capacity, seconds))

    async def _offered(self, kind: str, load: float, capacity: float, seconds: float) -> Step:
        async with AsyncClient(self._server.grpc_url, timeout=_TIMEOUT, retries=_ONCE) as clip:
            before = await clip.statistics()
            answers = await send_at(
                load * capacity, self._work.async_ask(kind, clip), seconds=seconds, warmup=_FILLING * seconds
            )
            done = difference(await clip.statistics(), before)[ENCODERS[kind]]
        return Step(load, answers, done.mean_batch_size)

    def vectors(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the vectors of all images and of 64 texts."""
        return self._clip.embed_images(list(self._work.images)), self._clip.embed_texts(list(self._work.texts[:64]))


@contextmanager
def service(repository: Path, work: Work) -> Iterator[Service]:
    """Provide a ready service, and end it after the block."""
    begun = time.perf_counter()
    with EmbeddedServer(repository, ServerOptions.on_free_ports()) as server:
        start = Start(time.perf_counter() - begun, usage_of(server.pid).memory_mib)
        with Client(server.grpc_url, timeout=_TIMEOUT, retries=_ONCE, remembered_texts=0) as clip:
            yield Service(server, clip, work, start)

"""The service of this project, which the benchmark compares with other software."""

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
_FILLING = 0.4  # the share of a measurement that does not count, because the queue still grows
_ONCE = RetryPolicy(attempts=1)


class Service:
    """A running tritonserver, which the benchmark measures with the SDK.

    Attributes:
        start: the time until the server was ready, and its memory then.
    """

    def __init__(self, server: EmbeddedServer, clip: Client, work: Work, start: Start) -> None:
        self._server, self._clip, self._work, self.start = server, clip, work, start

    def alone(self, kind: str, *, seconds: float) -> Lone:
        """Return the measurements of one caller, who makes one call after another."""
        ask = self._work.ask(kind, self._clip)
        saturate(ask, concurrency=1, seconds=seconds / 4, warmup=0)
        before = self._clip.statistics()
        answers = saturate(ask, concurrency=1, seconds=seconds, warmup=0)
        done = difference(self._clip.statistics(), before)[ENCODERS[kind]]
        return Lone(answers, done.compute_seconds / done.requests)

    def cached(self, *, seconds: float) -> Answers:
        """Return the answers to one caller who repeats one text. The server's cache answers the calls."""
        return saturate(lambda: self._clip.embed_texts(["一只猫"]), concurrency=1, seconds=seconds, warmup=seconds / 4)

    def saturated(self, kind: str, *, seconds: float, warmup: float) -> Saturated:
        """Return the measurements with enough callers to saturate the service."""
        before, used = self._clip.statistics(), usage_of(self._server.pid).cpu_seconds
        answers = saturate(self._work.ask(kind, self._clip), concurrency=CALLERS[kind], seconds=seconds, warmup=warmup)
        cpu = usage_of(self._server.pid).cpu_seconds - used
        done = difference(self._clip.statistics(), before)[ENCODERS[kind]]
        return Saturated(answers, done.mean_batch_size, cpu / max(1, done.items))

    def offered(self, kind: str, load: float, *, capacity: float, seconds: float) -> Step:
        """Return the measurements of an open loop, whose rate of requests is a multiple of the capacity."""
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
    """Start a service, wait until it is ready, and end it after the block."""
    begun = time.perf_counter()
    with EmbeddedServer(repository, ServerOptions.on_free_ports()) as server:
        start = Start(time.perf_counter() - begun, usage_of(server.pid).memory_mib)
        with Client(server.grpc_url, timeout=_TIMEOUT, retries=_ONCE, remembered_texts=0) as clip:
            yield Service(server, clip, work, start)

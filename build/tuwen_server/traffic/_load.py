"""Closed-loop load (each caller waits for its response) and open-loop load (requests at scheduled times)."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tuwen import OverloadedError, TuwenError
from tuwen_server.traffic._quantiles import latency_quantile

__all__ = ["Answers", "Ask", "AsyncAsk", "saturate", "send_at"]

_ROUNDS = 4
_EXTENSION = 120.0  # seconds

Ask = Callable[[], object]
"""A function that sends one request, each time with another item, and waits for its answer."""
AsyncAsk = Callable[[], Awaitable[object]]
"""An `Ask` for an event loop."""


@dataclass(frozen=True)
class Answers:
    """The successful answers, refusals and failures of a load.

    Attributes:
        seconds: the number of successful answers, divided by their rate. The rate is the slope of a line through the
            times of the answers. If every answer came after the measured time, the value is infinite.
        latencies: the seconds until each successful answer. In an open loop, the time begins with the scheduled start.
        refused: the seconds until each refusal.
        failed: the number of requests that ended without an answer or a refusal.
    """

    seconds: float
    latencies: tuple[float, ...]
    refused: tuple[float, ...] = ()
    failed: int = 0

    @property
    def rate(self) -> float:
        """Return the successful answers per second."""
        return len(self.latencies) / self.seconds

    def quantile(self, share: float) -> float:
        """Return the time in seconds within which a share of all requests was answered.

        A refused or failed request counts as infinitely late. `latency_quantile` has the details.
        """
        return latency_quantile(self.latencies, share, unanswered=len(self.refused) + self.failed)


def saturate(
    ask: Ask, *, concurrency: int, seconds: float, warmup: float, clock: Callable[[], float] = time.perf_counter
) -> Answers:
    """Measure a closed loop, in which each caller sends its next request after an answer or a refusal.

    The first `warmup` seconds do not count. Answers come in bursts, at the end of each batch, and the rate is measured
    from burst to burst. The measurement is extended until every caller has a few answers.

    Args:
        ask: the function that sends one request.
        concurrency: the number of callers.
        seconds: the duration of the measurement in seconds.
        warmup: the number of seconds before the measurement, in which callers already send requests.
        clock: a function that returns the time in seconds. Tests replace it.
    """
    start = clock() + warmup
    latencies: list[float] = []
    times: list[float] = []
    refused: list[float] = []

    def caller() -> None:
        while (sent := clock()) < start + seconds or (
            len(times) < _ROUNDS * concurrency and sent < start + seconds + _EXTENSION
        ):
            try:
                ask()
            except OverloadedError:
                refused.append(clock() - sent)
                continue
            if (done := clock()) >= start:
                latencies.append(done - sent)
                times.append(done)

    with ThreadPoolExecutor(concurrency) as pool:
        for finished in [pool.submit(caller) for _ in range(concurrency)]:
            finished.result()
    return Answers(_duration(times) or seconds, tuple(latencies), tuple(refused))


def _rate(times: Sequence[float], begin: float, end: float) -> float:
    """Return the responses per second from `begin` to `end`. `times` must be sorted.

    Answers come in bursts, so the rate is the slope of a line through the bursts. If the pause at the end is longer
    than every earlier pause, the rate is lowered by the difference.
    """
    if not times:
        return 0.0
    silent = max(0.0, end - times[-1] - float(np.diff([begin, *times]).max()))
    steady = len(times) / (_duration(times) or end - begin)
    return steady * (1 - silent / (end - begin))


def _duration(times: Sequence[float]) -> float:
    """Return the number of answers divided by their rate, the slope of a line through their times; 0 if unknown."""
    if len(set(times)) < 2:
        return 0.0
    rate = float(np.polyfit(np.sort(times) - min(times), np.arange(len(times)), 1)[0])
    return len(times) / rate


async def send_at(rate: float, ask: AsyncAsk, *, seconds: float, warmup: float = 0.0, seed: int = 0) -> Answers:
    """Measure an open loop, in which requests start at random times (Poisson) and do not wait for earlier answers.

    A latency counts from the scheduled start of its request, so every request that is scheduled during a stall is slow.
    Each request that is scheduled between `warmup` and `seconds` counts, however late it ends. Otherwise, a service
    that stops answering would look fast. The rate counts only the answers between `warmup` and `seconds`. One event
    loop sends all requests, because a thread for each request in flight would take CPU time from a local service.
    """
    clock = asyncio.get_running_loop().time
    good: list[float] = []
    times: list[float] = []
    refused: list[float] = []
    failed: list[float] = []
    start = clock() + 0.1

    async def send(due: float) -> None:
        try:
            await ask()
            found = good
        except OverloadedError:
            found = refused
        except TuwenError:
            found = failed
        ended = clock() - start
        if due >= warmup:
            found.append(ended - due)
        if found is good and warmup <= ended <= seconds:
            times.append(ended)

    sent = []
    for due in itertools.takewhile(lambda due: due < seconds, _poisson(rate, seed)):
        await asyncio.sleep(max(0.0, start + due - clock()))
        sent.append(asyncio.create_task(send(due)))
    await asyncio.gather(*sent)
    rate = _rate(sorted(times), warmup, seconds)
    took = len(good) / rate if rate else math.inf if good else seconds - warmup
    return Answers(took, tuple(good), tuple(refused), len(failed))


def _poisson(rate: float, seed: int) -> Iterator[float]:
    gaps = random.Random(seed)  # noqa: S311 - no secret
    at = 0.0
    while True:
        at += gaps.expovariate(rate)
        yield at

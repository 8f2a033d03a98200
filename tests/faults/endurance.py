"""Overload and long runs, in which a server's memory, open files, threads and shared memory must not grow."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import psutil

from tests.faults._outcome import Outcome
from tests.faults._use import middle_and_end, use_of
from tests.faults.images import good_images
from tests.support import metrics
from tests.support.stand_in import segments
from tuwen import AsyncClient, Client, DeadlineExceededError, InvalidItemsError, OverloadedError, RetryPolicy
from tuwen_server import EmbeddedServer
from tuwen_server.traffic import photographs

__all__ = ["soak", "storm"]

_ONCE = RetryPolicy(attempts=1)
_CALLERS = 300
_LOOKS = 60
_GROWTH = {"MiB": 1.1, "open files": 1.05, "threads": 1.05, "segments": 1.0}
"""The largest allowed ratio of the last third of a soak to the middle third, for each resource."""


def storm(server: EmbeddedServer, *, seconds: float, say: Callable[[str], None] = lambda _: None) -> list[Outcome]:
    """Overload a server with 300 callers whose timeout is one second, then send calls of one caller.

    The single caller must always get an answer. The outcome also states the time until its calls
    are as fast as before the overload. The test does not judge this time.

    Args:
        server: the running server.
        seconds: the duration of the overload.
        say: a function that is called with each line of progress; by default, no progress is reported.
    """
    numbers, large = itertools.count(), photographs(4, size=(1600, 1200))
    counts: Counter[str] = Counter()
    wrong: list[str] = []

    async def call(clip: AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            number = next(numbers)
            try:
                if number % 2:
                    await clip.embed_texts([f"第{number}只猫"])
                else:
                    await clip.embed_images([large[number // 2 % 4]])
                counts["answered"] += 1
            except (OverloadedError, DeadlineExceededError):
                counts["refused or late"] += 1
            except Exception as error:
                counts["failed"] += 1
                wrong.append(f"{type(error).__name__}: {error}")

    async def all_of_them() -> None:
        until = time.monotonic() + seconds
        async with AsyncClient(server.grpc_url, timeout=1, retries=_ONCE) as clip:
            watch = asyncio.create_task(look(until))
            await asyncio.gather(*(call(clip, until) for _ in range(_CALLERS)))
            await watch

    async def look(until: float) -> None:
        while time.monotonic() < until:
            memory.append(use_of(server.pid)["MiB"])
            await asyncio.sleep(seconds / 20)

    with Client(server.grpc_url, timeout=20) as clip:
        calm = max(_one_call(clip, large[0]) for _ in range(20))
        memory: list[float] = []
        asyncio.run(all_of_them())
        start = time.monotonic()
        while _one_call(clip, large[0]) > 2 * calm + 0.05 and time.monotonic() - start < 60:
            pass
        recovery = time.monotonic() - start
        waiting = {name: count for name, count in pending(server).items() if count}
    early, late = np.median(memory[5:10]), np.median(memory[-5:])
    if late > 1.1 * early:
        wrong.append(f"memory grows: {memory}")
    if waiting:
        wrong.append(f"requests are still queued after the storm: {waiting}")
    if not counts["answered"] or not counts["refused or late"]:
        wrong.append(f"expected both answered and refused calls, got {counts}")
    said = ", ".join(f"{count:,} {what}" for what, count in counts.most_common())
    say(f"storm: {said}")
    happened = (
        f"{said}; {early:.0f} MiB early, {late:.0f} MiB late; single calls as fast as before after {recovery:.1f} s"
    )
    return [Outcome(f"{_CALLERS} impatient callers for {seconds:.0f} s", sum(counts.values()), happened, wrong)]


def pending(server: EmbeddedServer) -> dict[str, float]:
    """Return the number of requests in the queue of each model."""
    counters = metrics.counters(server.metrics_url)
    return {model: value for (name, model), value in counters.items() if name == "nv_inference_pending_request_count"}


def soak(server: EmbeddedServer, *, seconds: float, say: Callable[[str], None] = lambda _: None) -> list[Outcome]:
    """Send calls of every kind, and check that neither the server nor this process uses more and more resources.

    The kinds are plain calls, streams, cancelled streams, refused items, calls with short deadlines, and new clients.

    Args:
        server: the running server.
        seconds: the duration of the soak.
        say: a function that is called with each line of progress; by default, no progress is reported.
    """
    numbers, pictures = itertools.count(), good_images(64, seed=9)
    server_use: list[dict[str, float]] = []
    own_use: list[dict[str, float]] = []
    start, rounds = time.monotonic(), 0
    with Client(server.grpc_url, timeout=20) as lasting:
        while (spent := time.monotonic() - start) < seconds:
            _everything(lasting, pictures, numbers)
            with Client(server.grpc_url, timeout=20) as fresh:
                _everything(fresh, pictures, numbers)
            asyncio.run(_everything_asynchronously(server.grpc_url, pictures, numbers))
            rounds += 1
            if spent >= len(own_use) * seconds / _LOOKS:
                own_segments = segments(psutil.Process(server.pid).cmdline())
                server_use.append({**use_of(server.pid), "segments": len(own_segments)})
                own_use.append(use_of())
                say(f"soak: {spent:.0f} of {seconds:.0f} s; server {server_use[-1]}, client {own_use[-1]}")
    items = next(numbers)
    return [_flat("the server", items, seconds, server_use), _flat("the client", rounds, seconds, own_use)]


def _everything(clip: Client, pictures: list[bytes], numbers: itertools.count[int]) -> None:
    clip.embed_images(pictures[:8])
    clip.similarity(images=pictures[:2], texts=[f"第{next(numbers)}只猫"])
    with contextlib.suppress(InvalidItemsError):
        clip.embed_images([b"no image"])
    with contextlib.suppress(DeadlineExceededError, OverloadedError):
        clip.embed_images(pictures[:32], timeout=0.002)
    assert all(outcome.ok for outcome in clip.stream_images(pictures))
    for outcome in clip.stream_texts(f"第{next(numbers)}只狗" for _ in range(10_000)):
        if outcome.index == 100:
            break  # abandons the stream


async def _everything_asynchronously(url: str, pictures: list[bytes], numbers: itertools.count[int]) -> None:
    async with AsyncClient(url, timeout=20) as clip:
        await asyncio.gather(*(clip.embed_texts([f"第{next(numbers)}匹马"]) for _ in range(20)))
        async for outcome in clip.stream_images(pictures):
            assert outcome.ok
        given_up = asyncio.create_task(clip.embed_images(pictures[:32]))
        await asyncio.sleep(0.002)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)


def _one_call(clip: Client, picture: bytes) -> float:
    start = time.monotonic()
    clip.embed_images([picture])
    return time.monotonic() - start


def _flat(who: str, times: int, seconds: float, seen: list[dict[str, float]]) -> Outcome:
    wrong, said = [], []
    for name in seen[0]:
        middle, last = middle_and_end([use[name] for use in seen])
        said.append(f"{middle:.0f} and {last:.0f} {name}")
        if last > _GROWTH[name] * middle:
            wrong.append(f"{name}: {[round(use[name]) for use in seen]}")
    return Outcome(
        f"a soak of {seconds:.0f} s: {who}",
        times,
        f"medians of the middle and the last third: {', '.join(said)}",
        wrong,
    )

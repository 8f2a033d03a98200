"""The speed of interactive use: bursts of calls, and interactive calls during a bulk stream.

    python -m tuwen_loadtest.bench.interactive [--repository FOLDER] [--seconds 5]

Bursts are sent in three ways, in turn: by the SDK to `tuwen serve`, by plain requests to `tuwen serve`, and by plain
requests to a server of the same models with only ``dynamic_batching { }`` in their configurations. Without
--repository, the model is a ViT-B/16 with random weights.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.grpc.model_config_pb2 import ModelDynamicBatching

from tuwen import AsyncClient
from tuwen_build.hardware import choose_precision
from tuwen_build.options import BuildOptions
from tuwen_build.repository import build_repository
from tuwen_build.seeded import BASE_PATCH16, write_seeded_checkpoint
from tuwen_loadtest._machine import processor, versions
from tuwen_repository.configs import config_path, read_config, write_config
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server.signals import stop_on_signals
from tuwen_server.traffic import Work, latency_quantile, photographs, queries

__all__ = ["Beside", "Burst", "in_turn", "interactive_lines", "measure_interactive"]

_KINDS = ("texts", "images")
_SIZES = (2, 4, 8, 16, 32, 64)
_ROUNDS = 3  # the minimum number of rounds of each burst
_PAUSE = 0.1  # seconds between two interactive calls, and between two bursts
_QUERIES = 100_000
_TIMEOUT = 120.0
_BASELINE = "`dynamic_batching { }`"

Ask = Callable[[str], Awaitable[object]]
"""A function that sends one item of a kind and waits for its vector."""


@dataclass(frozen=True)
class Burst:
    """The times of a number of calls with one item each, which are sent at the same time.

    Attributes:
        kind: the kind of the items, ``texts`` or ``images``.
        calls: the number of calls of a burst.
        latencies: the times of all calls of all bursts in seconds, by the way of sending, such as ``SDK``.
    """

    kind: str
    calls: int
    latencies: Mapping[str, Sequence[float]]

    def ratio(self, way: str, share: float) -> float:
        """Return a percentile of one way's latencies, divided by the equal percentile of ``dynamic_batching { }``."""
        return latency_quantile(self.latencies[way], share) / latency_quantile(self.latencies[_BASELINE], share)


@dataclass(frozen=True)
class Beside:
    """Interactive calls with one item each, one call after another, without and with a bulk stream.

    Attributes:
        kind: the kind of the items of the interactive calls, ``texts`` or ``images``.
        stream: the kind of the items of the bulk stream, ``texts`` or ``images``.
        alone, beside: the median time of a call in seconds, without and with the bulk stream.
        stream_alone, stream_beside: the items per second of the bulk stream, without and with interactive calls.
    """

    kind: str
    stream: str
    alone: float
    beside: float
    stream_alone: float
    stream_beside: float


def measure_interactive(
    repository: Path, seconds: float, *, sizes: Sequence[int] = _SIZES
) -> tuple[Sequence[Burst], Sequence[Beside]]:
    """Measure bursts on two servers, and interactive calls during a bulk stream on the first server.

    The first server serves the repository as `tuwen serve` does, the second one with ``dynamic_batching { }``.

    Args:
        repository: the folder of a built repository.
        seconds: the duration of each measurement.
        sizes: the sizes of the bursts, each as a number of calls.
    """
    options = ServerOptions.on_free_ports()
    work = Work(photographs(32), queries(_QUERIES))
    with tempfile.TemporaryDirectory() as folder, stop_on_signals(), EmbeddedServer(repository, options) as ours:
        plain = _with_plain_batching(repository, Path(folder) / "repository")
        unchecked = replace(options, queue_policies=True, cache_mib=0, check_files=False)
        with EmbeddedServer(plain, unchecked) as theirs:
            bursts = asyncio.run(_bursts(ours.grpc_url, theirs.grpc_url, work, seconds, sizes))
        return bursts, asyncio.run(_beside(ours.grpc_url, work, seconds))


def interactive_lines(bursts: Sequence[Burst], beside: Sequence[Beside]) -> Iterator[str]:
    """Yield the lines of two Markdown tables: the bursts, and the interactive calls."""
    ways = list(bursts[0].latencies) if bursts else []
    compared = [way for way in ways if way != _BASELINE]
    head = [f"{way}, ms" for way in ways] + [f"{way}: ratio" for way in compared]
    yield f"| calls at the same time: median; p99 | {' | '.join(head)} |"
    yield "|---" * (1 + len(head)) + "|"
    for burst in bursts:
        times = [_pair(*(latency_quantile(burst.latencies[way], share) * 1e3 for share in (0.5, 0.99))) for way in ways]
        ratios = [_pair(*(burst.ratio(way, share) for share in (0.5, 0.99)), form=".2f") for way in compared]
        yield f"| {burst.calls} {burst.kind} | {' | '.join([*times, *ratios])} |"
    yield ""
    measured = (
        "alone, ms | during the stream, ms | ratio | the stream alone, items/s | the stream during the calls, items/s"
    )
    yield f"| interactive call, median | {measured} |"
    yield "|---|---|---|---|---|---|"
    for one in beside:
        yield (
            f"| one {one.kind[:-1]} during a stream of {one.stream} | {one.alone * 1e3:.0f} | {one.beside * 1e3:.0f} | "
            f"{one.beside / one.alone:.1f} | {one.stream_alone:.1f} | {one.stream_beside:.1f} |"
        )
    yield ""


def _pair(first: float, second: float, *, form: str = ".0f") -> str:
    return f"{first:{form}}; {second:{form}}"


def _with_plain_batching(repository: Path, folder: Path) -> Path:
    """Make a repository whose files are links to the files of `repository`, with default settings for the batchers."""
    for path in repository.iterdir():
        config = config_path(repository, path.name)
        if not config.is_file():
            folder.mkdir(exist_ok=True)
            (folder / path.name).symlink_to(path)
            continue
        (folder / path.name).mkdir(parents=True)
        for entry in path.iterdir():
            if entry != config:
                (folder / path.name / entry.name).symlink_to(entry)
        adapted = read_config(config)
        if adapted.HasField("dynamic_batching"):
            adapted.dynamic_batching.CopyFrom(ModelDynamicBatching())
        write_config(adapted, config_path(folder, path.name))
    return folder


async def _bursts(ours: str, theirs: str, work: Work, seconds: float, sizes: Sequence[int]) -> Sequence[Burst]:
    found = []
    async with AsyncExitStack() as stack:
        clip = await stack.enter_async_context(AsyncClient(ours, timeout=_TIMEOUT, remembered_texts=0))
        ways: Mapping[str, Ask] = {
            "SDK": lambda kind: work.async_ask(kind, clip)(),
            "plain requests": await stack.enter_async_context(_plain(ours, work)),
            _BASELINE: await stack.enter_async_context(_plain(theirs, work)),
        }
        for kind, ask in itertools.product(_KINDS, ways.values()):
            await ask(kind)
        for kind, size in itertools.product(_KINDS, sizes):
            latencies: dict[str, list[float]] = {way: [] for way in ways}
            begun = time.perf_counter()
            for number in itertools.count():
                if number >= _ROUNDS and time.perf_counter() - begun > seconds * len(ways):
                    break
                for way in in_turn(list(ways), number):
                    latencies[way] += await asyncio.gather(*(_seconds(ways[way], kind) for _ in range(size)))
                    await asyncio.sleep(_PAUSE)
            found.append(Burst(kind, size, latencies))
    return found


def in_turn(names: Sequence[str], number: int) -> Sequence[str]:
    """Return the order of the ways of sending in a round. Over all rounds, each way follows every other equally often.

    Two ways of sending use the same server. In a fixed order, the weights of the model would always be in the
    processor's cache for the second way, and never for the first way.
    """
    orders = list(itertools.permutations(names))
    return orders[number % len(orders)]


@asynccontextmanager
async def _plain(url: str, work: Work) -> AsyncIterator[Ask]:
    """Provide a function that sends an item in a request that lacks the parameters of the SDK's requests."""
    async with triton.InferenceServerClient(url) as client:

        async def ask(kind: str) -> object:
            item = work.next_image() if kind == "images" else work.next_text().encode()
            name = kind.removesuffix("s")
            tensor = triton.InferInput(name, [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[item]], dtype=object))
            return (await client.infer(f"{name}_embedding", [tensor])).as_numpy("embedding")

        yield ask


async def _beside(url: str, work: Work, seconds: float) -> Sequence[Beside]:
    async with (
        AsyncClient(url, timeout=_TIMEOUT, remembered_texts=0) as person,
        AsyncClient(url, timeout=_TIMEOUT, remembered_texts=0) as jobs,
    ):
        alone = {kind: await _median(work.async_ask(kind, person), seconds) for kind in _KINDS}
        found = []
        for stream in _KINDS:
            bulk = _Stream(jobs, stream, work)
            task = asyncio.create_task(bulk.run())
            while bulk.done < 64 and not task.done():  # until the rate of the stream is constant
                await asyncio.sleep(_PAUSE)
            rate, _ = await bulk.rate_during(asyncio.sleep(seconds, 0.0))
            for kind in _KINDS:
                rate_beside, beside = await bulk.rate_during(_median(work.async_ask(kind, person), seconds))
                found.append(Beside(kind, stream, alone[kind], beside, rate, rate_beside))
            bulk.stop = True
            await task
    return found


class _Stream:
    """A bulk stream of the SDK that sends items until it is stopped.

    Attributes:
        done: the number of answered items.
        stop: whether the stream ends; set it to end the stream.
    """

    def __init__(self, clip: AsyncClient, kind: str, work: Work) -> None:
        self._clip, self._kind, self._work = clip, kind, work
        self.done = 0
        self.stop = False

    async def run(self) -> None:
        items = enumerate(self._items())
        stream = self._clip.stream_images if self._kind == "images" else self._clip.stream_texts
        async for _ in stream(items, window=64):
            self.done += 1

    async def rate_during(self, work: Awaitable[float]) -> tuple[float, float]:
        """Await `work`. Return the items per second of the stream until then, and the result of `work`."""
        begun, done = time.perf_counter(), self.done
        result = await work
        return (self.done - done) / (time.perf_counter() - begun), result

    def _items(self) -> Iterator[Any]:
        while not self.stop:
            yield self._work.next_image() if self._kind == "images" else self._work.next_text()


async def _median(ask: Callable[[], Awaitable[object]], seconds: float) -> float:
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < _ROUNDS:
        found.append(await _seconds(lambda _: ask(), ""))
        await asyncio.sleep(_PAUSE)
    return median(found)


async def _seconds(ask: Ask, kind: str) -> float:
    begun = time.perf_counter()
    await ask(kind)
    return time.perf_counter() - begun


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure bursts and interactive calls, and print both tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tuwen_loadtest.bench.interactive", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument(
        "--repository", type=Path, help="folder of a built repository (default: build a ViT-B/16 with random weights)"
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="duration of each measurement in seconds (default: 5)"
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=list(_SIZES),
        help="numbers of calls in a burst to measure (default: 2 4 8 16 32 64)",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        repository = options.repository or Path(folder) / "repository"
        if options.repository is None:
            checkpoint = write_seeded_checkpoint(Path(folder) / "checkpoint", BASE_PATCH16)
            build_repository(str(checkpoint), repository, BuildOptions(precision=choose_precision().precision))
        found = measure_interactive(repository, options.seconds, sizes=options.sizes)
    used = ", ".join(f"{name} {number}" for name, number in versions(("torch", "tritonclient")).items())
    sys.stdout.write("\n".join([*interactive_lines(*found), f"On {processor()}; {used}.\n"]))


if __name__ == "__main__":
    main()

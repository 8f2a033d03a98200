"""Measure the rate of a stream of texts, divided by the rate of a call with as many texts.

Run it with ``python -m tests.stream_overhead``. Rounds of streams and calls alternate, and their medians are compared.
The server is a tritonserver with a tiny model, so that the client has a large share in the time; ``--repository`` names
a larger model. Each round sends new texts, because client and server cache texts.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tuwen import AsyncClient, Client
from tuwen_build.repository import build_repository
from tuwen_build.seeded import write_seeded_checkpoint
from tuwen_server import EmbeddedServer, ServerOptions

_numbers = itertools.count()


def texts(count: int) -> list[str]:
    """Return new texts, which are in no cache."""
    return [f"第{next(_numbers):08}张图片：一只猫坐在窗台上" for _ in range(count)]


def rate(count: int, embed: Callable[[list[str]], object]) -> float:
    """Embed new texts, and return the number of texts per second."""
    wanted = texts(count)
    start = time.perf_counter()
    embed(wanted)
    return count / (time.perf_counter() - start)


def measure(url: str, count: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median rates of a call and of a stream, in texts per second, for each client.

    The first round is a warm-up and does not count.
    """

    def call(wanted: list[str]) -> None:
        with Client(url) as clip:
            clip.embed_texts(wanted)

    def stream(wanted: list[str]) -> None:
        with Client(url) as clip:
            assert all(outcome.ok for outcome in clip.stream_texts(wanted))

    async def asynchronous_call(wanted: list[str]) -> None:
        async with AsyncClient(url) as clip:
            await clip.embed_texts(wanted)

    async def asynchronous_stream(wanted: list[str]) -> None:
        async with AsyncClient(url) as clip:
            assert all([outcome.ok async for outcome in clip.stream_texts(wanted)])

    ways: dict[str, tuple[Callable[[list[str]], object], ...]] = {
        "sync": (call, stream),
        "async": (
            lambda wanted: asyncio.run(asynchronous_call(wanted)),
            lambda wanted: asyncio.run(asynchronous_stream(wanted)),
        ),
    }
    rates = {name: [[rate(count, way) for way in both] for _ in range(rounds + 1)][1:] for name, both in ways.items()}
    return {name: medians(found) for name, found in rates.items()}


def medians(rates: Sequence[Sequence[float]]) -> tuple[float, float]:
    calls, streams = (statistics.median(column) for column in zip(*rates, strict=True))
    return calls, streams


def main() -> None:
    """Measure both clients, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1024, help="Number of texts in a call or stream. Default: 1024.")
    parser.add_argument("--rounds", type=int, default=7, help="Number of rounds after the warm-up. Default: 7.")
    parser.add_argument("--repository", type=Path, help="Folder of a built repository. Default: a tiny model.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = options.repository
        if repository is None:
            repository = Path(folder) / "repository"
            build_repository(str(write_seeded_checkpoint(Path(folder) / "checkpoint")), repository)
        with EmbeddedServer(repository, ServerOptions.on_free_ports()) as server:
            found = measure(server.grpc_url, options.texts, options.rounds)
    print(f"| {options.texts:,} texts | call, texts/s | stream, texts/s | stream / call |")
    print("|---|---|---|---|")
    for name, (calls, streams) in found.items():
        print(f"| {name} | {calls:.0f} | {streams:.0f} | {streams / calls:.2f} |")


if __name__ == "__main__":
    main()

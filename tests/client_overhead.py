"""Measure the overhead of the SDK: the time of its calls, divided by the time of calls in hand-written code.

Run it with ``python -m tests.client_overhead``. The hand-written code uses tritonclient. The server is a tritonserver
with a tiny model, so that the client has a large share in the time of a call. Rounds of the SDK and of the hand-written
code alternate, and their medians are compared. Elapsed time depends on how the server happens to batch. The CPU time of
the client does not.

``--against CHECKOUT`` also measures the SDK of another checkout, in turns with this one and on the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from tuwen import AsyncClient, Client

ROOT = Path(__file__).parents[1]
PHOTO = (ROOT / "build" / "tuwen_repository" / "samples" / "cat.jpg").read_bytes()
_numbers = itertools.count()

Call = Callable[[], object]
AsyncCall = Callable[[], Awaitable[object]]
Times = tuple[float, float]
"""The elapsed seconds of a call, and the CPU seconds of the client for the call."""
Row = tuple[str, int, Times, Times]
"""The name of a call, the number of concurrent calls, and the times of hand-written code and of the SDK."""


def text() -> str:
    """Return a new text, which is in no cache."""
    return f"第{next(_numbers)}张图片"


def tensor(name: str, content: bytes) -> triton.InferInput:
    """Return a BYTES tensor of one image or text, as Triton's tutorials make it."""
    made = triton.InferInput(name, [1, 1], "BYTES")
    made.set_data_from_numpy(np.array([[content]], dtype=np.object_))
    return made


def seconds(calls: int, concurrency: int, call: Call) -> Times:
    """Make a number of calls in a number of threads, and return the seconds per call."""
    with ThreadPoolExecutor(concurrency) as pool:
        start, busy = time.perf_counter(), time.process_time()
        for done in [pool.submit(call) for _ in range(calls)]:
            done.result()
        return (time.perf_counter() - start) / calls, (time.process_time() - busy) / calls


async def async_seconds(calls: int, concurrency: int, call: AsyncCall) -> Times:
    """Make a number of concurrent calls in an event loop, and return the seconds per call."""
    limit = asyncio.Semaphore(concurrency)

    async def one() -> None:
        async with limit:
            await call()

    start, busy = time.perf_counter(), time.process_time()
    await asyncio.gather(*[one() for _ in range(calls)])
    return (time.perf_counter() - start) / calls, (time.process_time() - busy) / calls


def medians(rounds: list[list[Times]]) -> tuple[Times, Times]:
    """Return the median times of hand-written code and of the SDK. The first round is a warm-up and does not count."""
    hand, sdk = (
        [statistics.median(column) for column in zip(*times, strict=True)] for times in zip(*rounds[1:], strict=True)
    )
    return (hand[0], hand[1]), (sdk[0], sdk[1])


def measure(url: str, calls: int, rounds: int) -> Iterator[Row]:
    """Yield a row for each call of the synchronous clients, with 1 and with 16 threads."""
    with triton.InferenceServerClient(url) as plain, Client(url) as clip:
        pairs: dict[str, tuple[Call, Call]] = {
            "image": (
                lambda: plain.infer("image_embedding", [tensor("image", PHOTO)]).as_numpy("embedding"),
                lambda: clip.embed_images([PHOTO]),
            ),
            "text": (
                lambda: plain.infer("text_embedding", [tensor("text", text().encode())]).as_numpy("embedding"),
                lambda: clip.embed_texts([text()]),
            ),
        }
        for (name, pair), concurrency in itertools.product(pairs.items(), (1, 16)):
            times = [[seconds(calls, concurrency, call) for call in pair] for _ in range(rounds + 1)]
            yield name, concurrency, *medians(times)


async def measure_async(url: str, calls: int, rounds: int) -> list[Row]:
    """Return a row for each call of the asynchronous clients, with 1 and with 16 concurrent tasks."""
    rows: list[Row] = []
    async with triton_aio.InferenceServerClient(url) as plain, AsyncClient(url) as clip:

        async def image() -> object:
            return (await plain.infer("image_embedding", [tensor("image", PHOTO)])).as_numpy("embedding")

        async def words() -> object:
            return (await plain.infer("text_embedding", [tensor("text", text().encode())])).as_numpy("embedding")

        pairs: dict[str, tuple[AsyncCall, AsyncCall]] = {
            "image, async": (image, lambda: clip.embed_images([PHOTO])),
            "text, async": (words, lambda: clip.embed_texts([text()])),
        }
        for (name, pair), concurrency in itertools.product(pairs.items(), (1, 16)):
            times = [[await async_seconds(calls, concurrency, call) for call in pair] for _ in range(rounds + 1)]
            rows.append((name, concurrency, *medians(times)))
    return rows


def measured(url: str, calls: int, rounds: int) -> list[Row]:
    """Return all rows for the SDK that this process imports."""
    return [*measure(url, calls, rounds), *asyncio.run(measure_async(url, calls, rounds))]


def compared(url: str, checkouts: Sequence[Path], calls: int, rounds: int, turns: int) -> list[list[Row]]:
    """Measure the SDK of each checkout in turns, in processes of its own, and return the rows of each checkout."""
    found: list[list[list[Row]]] = [[] for _ in checkouts]
    command = [sys.executable, __file__, "--url", url, "--calls", str(calls), "--rounds", str(rounds), "--json"]
    for _ in range(turns):
        for rows, checkout in zip(found, checkouts, strict=True):
            environment = {**os.environ, "PYTHONPATH": str(checkout / "client")}
            rows.append(json.loads(subprocess.check_output(command, env=environment)))
    return [[over_turns(same) for same in zip(*rows, strict=True)] for rows in found]


def over_turns(rows: Sequence[Row]) -> Row:
    """Return one row with the median times of the same row in all turns."""
    hand, sdk = (
        [statistics.median(column) for column in zip(*times, strict=True)]
        for times in list(zip(*rows, strict=True))[2:]
    )
    return rows[0][0], rows[0][1], (hand[0], hand[1]), (sdk[0], sdk[1])


def ratios(row: Row) -> tuple[float, float]:
    """Return the elapsed time and the CPU time of the SDK, each divided by the time of the hand-written code."""
    _, _, hand, sdk = row
    return sdk[0] / hand[0], sdk[1] / hand[1]


def print_rows(rows: Sequence[Row]) -> None:
    print("| one item a call | concurrency | by hand, ms | SDK, ms | ratio | ratio of client CPU |")
    print("|---|---|---|---|---|---|")
    for name, concurrency, hand, sdk in rows:
        wall, busy = ratios((name, concurrency, hand, sdk))
        print(f"| {name} | {concurrency} | {hand[0] * 1e3:.2f} | {sdk[0] * 1e3:.2f} | {wall:.2f} | {busy:.2f} |")


def print_comparison(others: Sequence[Row], ours: Sequence[Row]) -> None:
    print("| one item a call | concurrency | ratio, other | ratio, this | client CPU, other | client CPU, this |")
    print("|---|---|---|---|---|---|")
    for other, own in zip(others, ours, strict=True):
        (wall, busy), (own_wall, own_busy) = ratios(other), ratios(own)
        print(f"| {own[0]} | {own[1]} | {wall:.2f} | {own_wall:.2f} | {busy:.2f} | {own_busy:.2f} |")


@contextmanager
def served(url: str | None) -> Iterator[str]:
    """Yield the given address of a server. If it is None, start a server with a tiny model and yield its address."""
    if url is not None:
        yield url
        return
    from tuwen_build.repository import build_repository
    from tuwen_build.seeded import write_seeded_checkpoint
    from tuwen_server import EmbeddedServer, ServerOptions

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_seeded_checkpoint(Path(folder) / "checkpoint")
        build_repository(str(checkpoint), Path(folder) / "repository")
        with EmbeddedServer(Path(folder) / "repository", ServerOptions.on_free_ports()) as server:
            yield server.grpc_url


def main() -> None:
    """Measure the calls, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200, help="Number of calls of each kind in a round. Default: 200.")
    parser.add_argument("--rounds", type=int, default=15, help="Number of rounds in each turn. Default: 15.")
    parser.add_argument("--url", help="gRPC endpoint of a running server. Default: a new server with a tiny model.")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="Another checkout, whose SDK is measured too.")
    parser.add_argument("--turns", type=int, default=3, help="Number of turns of each SDK with --against. Default: 3.")
    parser.add_argument("--json", action="store_true", help="Print the rows as JSON.")
    options = parser.parse_args()
    with served(options.url) as url:
        if options.against:
            checkouts = (options.against.resolve(), ROOT)
            print_comparison(*compared(url, checkouts, options.calls, options.rounds, options.turns))
        elif options.json:
            print(json.dumps(measured(url, options.calls, options.rounds)))
            return
        else:
            print_rows(measured(url, options.calls, options.rounds))
    versions = ", ".join(f"{package} {version(package)}" for package in ("tuwen", "tritonclient", "grpcio"))
    print(f"\n{versions}, Python {platform.python_version()}, {platform.machine()}; medians of {options.rounds} rounds")


if __name__ == "__main__":
    main()

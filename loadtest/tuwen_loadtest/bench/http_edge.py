"""Compare the speed of the HTTP edge with the speed of the SDK: ``python -m tuwen_loadtest.bench.http_edge``.

The SDK and the edge are measured in turn on the same server. Only the ratios of the speeds are meaningful, because the
server, the edge and the callers share this machine. The edge runs in its own process, and the callers are tasks of this
process.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tuwen import AsyncClient
from tuwen_build.repository import BuildOptions, build_repository
from tuwen_build.seeded import TINY, write_seeded_checkpoint
from tuwen_build.transformers_logging import quiet_transformers
from tuwen_server import EmbeddedServer, ServerOptions, guarded_folder
from tuwen_server.signals import stop_on_signals

__all__ = ["Measured", "edge_lines", "main", "measure_in_turn"]

_CALLERS = 32
_HEAD = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"
_BOUNDARY = "tuwen"
Call = Callable[[int], Awaitable[None]]
Connect = Callable[[], Awaitable[tuple[Call, Callable[[], Awaitable[None]]]]]


@dataclass(frozen=True)
class Measured:
    """The speed of calls through one contestant, such as the SDK or the edge.

    Attributes:
        rate: the calls per second of all callers together.
        median_ms: the median duration of a call in milliseconds.
    """

    rate: float
    median_ms: float


def measure_in_turn(
    contestants: Sequence[tuple[str, Connect]], *, callers: int, rounds: int, seconds: float
) -> dict[str, Measured]:
    """Return the median speed of each contestant. In each round, every contestant is measured once.

    Args:
        contestants: the name of each contestant, and a function that a caller awaits first. The function returns two
            functions: one makes a call, and the other cleans up.
        callers: the number of concurrent callers. A caller makes one call after another.
        rounds: the number of rounds.
        seconds: the duration of one measurement.
    """
    found: dict[str, list[Measured]] = {name: [] for name, _ in contestants}
    for number in range(rounds):
        first = number % len(contestants)
        for name, connect in [*contestants[first:], *contestants[:first]]:
            found[name].append(asyncio.run(_measure(connect, callers, seconds)))
    return {
        name: Measured(statistics.median(one.rate for one in turns), statistics.median(one.median_ms for one in turns))
        for name, turns in found.items()
    }


async def _measure(connect: Connect, callers: int, seconds: float) -> Measured:
    durations: list[float] = []
    connected = [await connect() for _ in range(callers)]
    begun = time.perf_counter()

    async def caller(index: int, call: Call) -> None:
        number = 0
        while time.perf_counter() - begun < seconds:
            start = time.perf_counter()
            await call(number * callers + index)
            durations.append(time.perf_counter() - start)
            number += 1

    await asyncio.gather(*(caller(index, call) for index, (call, _) in enumerate(connected)))
    taken = time.perf_counter() - begun
    for _, end in connected:
        await end()
    return Measured(len(durations) / taken, statistics.median(durations) * 1e3)


def _sdk(url: str, pictures: Sequence[bytes]) -> Connect:
    """Return a contestant that calls the SDK with one picture, or with one text if `pictures` is empty.

    All callers share one client.
    """
    shared: list[AsyncClient] = []

    async def connect() -> tuple[Call, Callable[[], Awaitable[None]]]:
        if not shared:
            shared.append(AsyncClient(url, remembered_texts=0))
        [client] = shared

        async def call(number: int) -> None:
            if pictures:
                await client.embed_images([pictures[number % len(pictures)]])
            else:
                await client.embed_texts([_text(number)])

        async def end() -> None:
            await client.close()
            shared.clear()

        return call, end

    return connect


def _edge(port: int, body: Callable[[int], tuple[str, bytes]]) -> Connect:
    """Return a contestant that calls the edge over HTTP.

    The HTTP client is minimal, because it shares the machine's cores with the edge.
    """

    async def connect() -> tuple[Call, Callable[[], Awaitable[None]]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def call(number: int) -> None:
            media_type, content = body(number)
            writer.write(_HEAD.format(media_type, len(content)).encode() + content)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(answer.decode("utf-8", "replace")[:500])

        async def end() -> None:
            writer.close()
            await writer.wait_closed()

        return call, end

    return connect


def _text(number: int) -> str:
    return f"一只猫在睡觉 {number} {time.perf_counter_ns()}"


def _text_body(number: int) -> tuple[str, bytes]:
    return "application/json", json.dumps({"input": _text(number), "encoding_format": "base64"}).encode()


def _base64_body(pictures: Sequence[bytes]) -> Callable[[int], tuple[str, bytes]]:
    def body(number: int) -> tuple[str, bytes]:
        image = base64.b64encode(pictures[number % len(pictures)]).decode()
        return "application/json", json.dumps({"input": {"image": image}, "encoding_format": "base64"}).encode()

    return body


def _form_body(pictures: Sequence[bytes]) -> Callable[[int], tuple[str, bytes]]:
    def body(number: int) -> tuple[str, bytes]:
        disposition = 'Content-Disposition: form-data; name="input"; filename="a.jpg"'
        setting = f'Content-Disposition: form-data; name="encoding_format"\r\n\r\nbase64\r\n--{_BOUNDARY}'
        head = f"--{_BOUNDARY}\r\n{setting}\r\n{disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
        content = head.encode() + pictures[number % len(pictures)] + f"\r\n--{_BOUNDARY}--\r\n".encode()
        return f"multipart/form-data; boundary={_BOUNDARY}", content

    return body


def photographs(count: int, side: int = 640) -> list[bytes]:
    """Return random pictures as JPEG files, with the size and the detail of small photographs."""
    random, found = np.random.default_rng(0), []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (48, 48, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


@contextmanager
def _running_edge(url: str) -> Iterator[int]:
    """Run an edge in its own process during the block, and provide its port. The edge writes no access log."""
    command = [sys.executable, "-m", "tuwen_cli", "edge", url, "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline() if process.stderr else ""
            yield int(line.partition("/v1/")[0].rpartition(":")[2])
        finally:
            process.terminate()


def edge_lines(title: str, found: dict[str, Measured]) -> Iterator[str]:
    """Yield the lines of a Markdown table. Each ratio and difference compares a contestant with the first one."""
    [first, *_] = found.values()
    yield f"| {title} | calls per second | ratio | median, ms | difference, ms |"
    yield "|---|---|---|---|---|"
    for name, one in found.items():
        ratio, more = one.rate / first.rate, one.median_ms - first.median_ms
        yield f"| {name} | {one.rate:.0f} | {ratio:.2f} | {one.median_ms:.2f} | {more:+.2f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the SDK and the edge, and print each table as soon as it is complete."""
    parser = argparse.ArgumentParser(prog="python -m tuwen_loadtest.bench.http_edge", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="number of rounds; SDK and edge are measured once per round (default: 5)"
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="duration of each measurement in seconds (default: 4)"
    )
    parsed = parser.parse_args(arguments)
    quiet_transformers()
    pictures = photographs(32)
    with stop_on_signals(), guarded_folder() as folder:
        repository = folder / "repository"
        build_repository(str(write_seeded_checkpoint(folder / "checkpoint", TINY)), repository, BuildOptions())
        _print_tables(repository, pictures, rounds=parsed.rounds, seconds=parsed.seconds)


def _print_tables(repository: Path, pictures: Sequence[bytes], *, rounds: int, seconds: float) -> None:
    with (
        EmbeddedServer(repository, ServerOptions.on_free_ports()) as server,
        _running_edge(server.grpc_url) as port,
    ):
        texts = [("the SDK", _sdk(server.grpc_url, ())), ("the edge", _edge(port, _text_body))]
        images = [
            ("the SDK", _sdk(server.grpc_url, pictures)),
            ("the edge, base64", _edge(port, _base64_body(pictures))),
            ("the edge, a form", _edge(port, _form_body(pictures))),
        ]
        for kind, contestants in (("text", texts), ("image", images)):
            for callers in (_CALLERS, 1):
                found = measure_in_turn(contestants, callers=callers, rounds=rounds, seconds=seconds)
                title = f"one {kind} per call, {callers} caller{'s' * (callers > 1)}"
                sys.stdout.write("\n".join(edge_lines(title, found)) + "\n\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Measure overload: constant rates of up to four times the capacity, with and without queue policies.

    python -m tuwen_loadtest.bench.overload [--repository FOLDER] [--seconds 20]

Each encoder computes with one thread. On a machine with two cores, one core is left for the load generator and the
other steps of the server. Without --repository, the model is a ViT-B/16 with random weights.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuwen import AsyncClient, Client, RetryPolicy
from tuwen.statistics import difference
from tuwen_build.hardware import choose_precision
from tuwen_build.options import BuildOptions
from tuwen_build.repository import build_repository
from tuwen_build.seeded import BASE_PATCH16, write_seeded_checkpoint
from tuwen_loadtest._machine import processor, versions
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server.signals import stop_on_signals
from tuwen_server.traffic import CALLERS, Answers, Work, latency_quantile, photographs, queries, saturate, send_at
from tuwen_server.tuning import ENCODERS, Settings, apply, limit_waiting

__all__ = ["Overload", "measure_overload", "overload_lines"]

_LOADS = (0.5, 1.0, 2.0, 4.0)  # rates of requests, as multiples of the capacity
_WAYS = {"as `tuwen serve` does": False, "with queue policies": True}
_QUERIES = 500_000
_FILLING = 0.25  # the share of a measurement that does not count, because the queue still grows
_DEADLINES = 4.0  # the deadline of a call, as a multiple of the longest wait
_ONCE = RetryPolicy(attempts=1)


@dataclass(frozen=True)
class Overload:
    """The measurements of one rate of requests.

    Attributes:
        way: the server's settings: ``as `tuwen serve` does`` (no queue policies), or ``with queue policies``.
        kind: the kind of items, ``texts`` or ``images``.
        load: the rate of requests, as a multiple of `capacity`.
        capacity: the answers per second to callers who send the next request after each answer.
        answers: the answers and refusals, with their latencies.
        batch: the mean number of items in a batch of the encoder.
    """

    way: str
    kind: str
    load: float
    capacity: float
    answers: Answers
    batch: float

    @property
    def share(self) -> float:
        """The answers per second, as a share of the capacity."""
        return self.answers.rate / self.capacity


def measure_overload(repository: Path, seconds: float, longest_wait: float) -> Sequence[Overload]:
    """Measure the rates of `_LOADS` on two servers of a repository: without and with queue policies.

    Args:
        repository: the folder of a built repository. The function changes only a copy of the folder.
        seconds: the duration of each measurement.
        longest_wait: the maximum seconds that a request may wait for a model.
    """
    found: list[Overload] = []
    work = Work(photographs(32), queries(_QUERIES))
    with tempfile.TemporaryDirectory() as folder, stop_on_signals():
        copy = Path(shutil.copytree(repository, Path(folder) / "repository"))
        for kind in ENCODERS:
            apply(copy, kind, Settings(instances=1, threads=1, delay_microseconds=100))
        limit_waiting(copy, dict.fromkeys(ENCODERS, longest_wait))
        for way, policies in _WAYS.items():
            options = replace(ServerOptions.on_free_ports(), queue_policies=policies, cache_mib=0, check_files=False)
            with EmbeddedServer(copy, options) as server:
                for kind in ENCODERS:
                    found += _loads(server, way, kind, work, seconds=seconds, longest_wait=longest_wait)
    return found


def _loads(
    server: EmbeddedServer, way: str, kind: str, work: Work, *, seconds: float, longest_wait: float
) -> Iterator[Overload]:
    with Client(server.grpc_url, timeout=60, retries=_ONCE, remembered_texts=0) as clip:
        callers = CALLERS[kind]
        peak = saturate(work.ask(kind, clip), concurrency=callers, seconds=seconds / 2, warmup=seconds / 4).rate
        for load in _LOADS:
            sys.stderr.write(f"{way}, {kind}: {load:g} times {peak:.1f} requests per second\n")
            before = clip.statistics()
            offer = _offer(server.grpc_url, work, kind, load * peak, seconds=seconds, timeout=_DEADLINES * longest_wait)
            answers = asyncio.run(offer)
            batch = difference(clip.statistics(), before)[ENCODERS[kind]].mean_batch_size
            yield Overload(way, kind, load, peak, answers, batch)


async def _offer(url: str, work: Work, kind: str, rate: float, *, seconds: float, timeout: float) -> Answers:
    async with AsyncClient(url, timeout=timeout, retries=_ONCE, remembered_texts=0) as clip:
        return await send_at(rate, work.async_ask(kind, clip), seconds=seconds, warmup=_FILLING * seconds)


def overload_lines(found: Sequence[Overload]) -> Iterator[str]:
    """Yield the lines of a Markdown table with the measurements."""
    yield "| served | load | answers per second | of the capacity | p50; p99 of answers, s | refused; p99, s | batch |"
    yield "|---" * 7 + "|"
    for one in found:
        answers = one.answers
        total = len(answers.latencies) + len(answers.refused) + answers.failed
        yield (
            f"| {one.kind} {one.way} | {one.load:g} × {one.capacity:.1f} | {answers.rate:.1f} | {one.share:.0%} | "
            f"{_pair(answers.latencies)} | {_share(len(answers.refused), total)}; {_last(answers.refused)} | "
            f"{one.batch:.1f} |"
        )
    yield ""
    failed = sum(one.answers.failed for one in found)
    yield f"Requests that ended in neither an answer nor a typed refusal: {failed}."
    yield ""


def _pair(latencies: Sequence[float]) -> str:
    if not latencies:
        return "–"
    return "; ".join(f"{latency_quantile(latencies, share):.2f}" for share in (0.5, 0.99))


def _last(latencies: Sequence[float]) -> str:
    return f"{latency_quantile(latencies, 0.99):.2f}" if latencies else "–"


def _share(count: int, total: int) -> str:
    return f"{count / total:.0%}" if total else "0%"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the overload, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tuwen_loadtest.bench.overload", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument(
        "--repository", type=Path, help="folder of a built repository (default: build a ViT-B/16 with random weights)"
    )
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="duration of each measurement in seconds (default: 20)"
    )
    parser.add_argument(
        "--longest-wait",
        type=float,
        default=2.0,
        help="maximum time in seconds that a request may wait for a model (default: 2)",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        repository = options.repository or Path(folder) / "repository"
        if options.repository is None:
            checkpoint = write_seeded_checkpoint(Path(folder) / "checkpoint", BASE_PATCH16)
            build_repository(str(checkpoint), repository, BuildOptions(precision=choose_precision().precision))
        found = measure_overload(repository, options.seconds, options.longest_wait)
    used = ", ".join(f"{name} {number}" for name, number in versions(("torch", "tritonclient")).items())
    sys.stdout.write("\n".join([*overload_lines(found), f"On {processor()}; {used}.\n"]))


if __name__ == "__main__":
    main()

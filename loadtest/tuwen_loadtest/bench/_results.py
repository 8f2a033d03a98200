"""The results of a benchmark as dataclasses, for the report and for comparisons of runs."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from tuwen_loadtest._machine import cpu_flags, processor, versions
from tuwen_loadtest.bench._waits import Waits
from tuwen_loadtest.bench.interactive import Beside, Burst
from tuwen_server import PACKAGES
from tuwen_server.traffic import Answers

__all__ = [
    "KINDS",
    "PADDED",
    "Load",
    "Lone",
    "Results",
    "Round",
    "Saturated",
    "Start",
    "Step",
    "Timing",
    "machine",
    "pooled",
]

KINDS = ("images", "texts")
PADDED = "texts padded to 52"
"""The name of the task in which a peer pads every text to the context length of 52 tokens."""
_LIBRARIES = ("tuwen", "torch", "transformers", "tokenizers", "pillow", "numpy", "tritonclient")
_SERVER = "nvidia-pytriton"


@dataclass(frozen=True)
class Timing:
    """The measurements of a loop that computes one batch after another.

    Attributes:
        rate: the items per second.
        median: the median time of a batch in seconds.
        first: the time that the first batch (the warm-up) took in addition to the median, in seconds.
    """

    rate: float
    median: float
    first: float


@dataclass(frozen=True)
class Start:
    """The start of a service: the seconds until the service was ready, and the memory that it used then."""

    seconds: float
    memory_mib: float


@dataclass(frozen=True)
class Lone:
    """The measurements of a service with one caller.

    Attributes:
        answers: the answers to all calls, with their latencies.
        encoder_seconds: the mean time that the encoder computed for a request, in seconds, from the server's
            statistics.
    """

    answers: Answers
    encoder_seconds: float

    @property
    def added(self) -> float:
        """The mean number of seconds that a call takes in addition to the computation of the encoder."""
        return fmean(self.answers.latencies) - self.encoder_seconds


@dataclass(frozen=True)
class Saturated:
    """The measurements of a saturated service: answers, the encoder's mean batch size, and the CPU time per item."""

    answers: Answers
    batch: float
    cpu_seconds: float


@dataclass(frozen=True)
class Step:
    """The measurements of one offered rate in one round. The rate is a multiple of the throughput at saturation."""

    load: float
    answers: Answers
    batch: float


@dataclass(frozen=True)
class Load:
    """The measurements of an offered rate over all rounds: the medians of goodput and batch size, and all answers."""

    load: float
    rate: float
    answers: Answers
    batch: float


@dataclass(frozen=True)
class Round:
    """The measurements of one precision with one kind of items, in one round.

    Attributes:
        encoder: the encoder without a service, in batches of its fastest size.
        encoder_alone: the encoder without a service, one item at a time.
        alone: the service with one caller.
        saturated: the service with many callers.
        steps: the service at each offered rate.
        cached: the service with one caller that repeats one text, which the cache answers; None for images.
    """

    encoder: Timing
    encoder_alone: Timing
    alone: Lone
    saturated: Saturated
    steps: Sequence[Step] = ()
    cached: Answers | None = None


@dataclass(frozen=True)
class Results:
    """All results of a benchmark.

    Attributes:
        machine: the processor, the cores and the versions of the software, by name.
        curves: the encoder without a service, by precision. The next key is ``images`` or ``texts``, with the timings
            by batch size, or ``lengths``, with the timings by number of tokens.
        starts: the start of the service, by precision.
        rounds: the measurements of each round, by precision and kind.
        cosines: the smallest cosine between a vector and its fp32 vector, by precision and kind.
        peers: the items per second of other software in each round, by name and task.
        decoding: the images per second on one core, by decoder and size of the images.
        waits: the calls that waited for Triton's batcher, by kind of call.
        beside_jobs: the median time of a call while jobs run, in seconds, by the priority of the jobs.
        bursts: the times of calls that were sent at the same time, with the batching of the service and with
            Triton's default batching.
        beside_streams: the times of interactive calls, without and with a bulk stream.
    """

    machine: Mapping[str, str]
    curves: Mapping[str, Mapping[str, Mapping[int, Timing]]]
    starts: Mapping[str, Start]
    rounds: Mapping[str, Mapping[str, Sequence[Round]]]
    cosines: Mapping[str, Mapping[str, float]]
    peers: Mapping[str, Mapping[str, Sequence[float]]]
    decoding: Mapping[str, Mapping[str, float]]
    waits: Mapping[str, Waits]
    beside_jobs: Mapping[str, float]
    bursts: Sequence[Burst] = ()
    beside_streams: Sequence[Beside] = ()

    def throughput(self, precision: str, kind: str) -> Sequence[float]:
        """Return the throughput of the service in each round, in items per second."""
        return [found.saturated.answers.rate for found in self.rounds[precision][kind]]

    def loads(self, precision: str, kind: str) -> Sequence[Load]:
        """Return the measurements of each offered rate, over all rounds."""
        rounds = [found.steps for found in self.rounds[precision][kind]]
        return [
            Load(
                steps[0].load,
                median(step.answers.rate for step in steps),
                pooled(step.answers for step in steps),
                median(step.batch for step in steps),
            )
            for steps in zip(*rounds, strict=True)
        ]

    def best_peer(self, task: str) -> Sequence[float]:
        """Return the fastest peer's throughput in each round. The fastest peer has the highest median throughput."""
        return max((peer[task] for peer in self.peers.values() if task in peer), key=median)

    def write(self, path: Path) -> None:
        """Write the results, with all latencies, into a JSON file."""
        content: dict[str, Any] = asdict(self)
        path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def pooled(rounds: Iterable[Answers]) -> Answers:
    """Return one `Answers` with the answers of several rounds."""
    found = list(rounds)
    return Answers(
        sum(answers.seconds for answers in found),
        tuple(itertools.chain.from_iterable(answers.latencies for answers in found)),
        tuple(itertools.chain.from_iterable(answers.refused for answers in found)),
        sum(answers.failed for answers in found),
    )


def machine(threads: int) -> dict[str, str]:
    """Return the processor, the cores and the versions of the software, by name."""
    flags = cpu_flags()
    units = [name for name, flag in (("AMX", "amx_tile"), ("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags]
    return {
        "processor": f"{processor()} ({', '.join(units)})",
        "cores": f"{os.cpu_count()}; every measured program computes with {threads}",
        **versions(_LIBRARIES),
        _SERVER: PACKAGES[_SERVER],
    }

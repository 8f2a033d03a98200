"""The measurements of the service and its peers, in rounds.

In each round every program is measured once, because the speed of a shared machine changes over time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tuwen_loadtest.bench._litserve import LitServe
from tuwen_loadtest.bench._loop import Loop
from tuwen_loadtest.bench._results import KINDS, Round, Step, Timing
from tuwen_loadtest.bench._service import Service
from tuwen_server.traffic import CALLERS

__all__ = ["Ours", "Plan", "compare", "curves"]

_SIZES = (1, 2, 4, 8, 16, 32)
_LENGTHS = (8, 16, 24, 32, 52)
_LOADS = (0.5, 1.0, 2.0, 4.0)
_WAVES = 8


@dataclass(frozen=True)
class Plan:
    """The plan of a benchmark: the number of rounds, the seconds of a measurement, and the threads of each program."""

    rounds: int
    seconds: float
    threads: int


@dataclass(frozen=True)
class Ours:
    """The programs of this project in one precision: the service, and the encoder with its fastest batch sizes."""

    encoder: Loop
    batches: Mapping[str, int]
    service: Service


def curves(encoder: Loop, plan: Plan) -> Mapping[str, Mapping[int, Timing]]:
    """Return the timings of the encoder alone: by batch size, and by number of tokens for batches of eight texts."""
    seconds = plan.seconds / 4
    return {
        **{kind: {size: encoder.measure(kind, batch=size, seconds=seconds) for size in _SIZES} for kind in KINDS},
        "lengths": {length: encoder.measure(f"texts of {length} tokens", seconds=seconds) for length in _LENGTHS},
    }


def compare(
    ours: Mapping[str, Ours], loops: Mapping[str, Loop], server: LitServe | None, plan: Plan, say: Callable[[str], None]
) -> tuple[Mapping[str, Mapping[str, Sequence[Round]]], Mapping[str, Mapping[str, Sequence[float]]]]:
    """Measure the service in each precision, and the peers. Return `Results.rounds` and `Results.peers`."""
    rounds: dict[str, dict[str, list[Round]]] = {precision: {kind: [] for kind in KINDS} for precision in ours}
    peers: dict[str, dict[str, list[float]]] = {name: {task: [] for task in loop.tasks} for name, loop in loops.items()}
    if server:
        peers["LitServe"] = {kind: [] for kind in KINDS}
    for number in range(1, plan.rounds + 1):
        for kind in KINDS:
            for precision, mine in ours.items():
                say(f"round {number} of {plan.rounds}: {precision} {kind}")
                rounds[precision][kind].append(_round(mine, kind, plan.seconds))
            say(f"round {number} of {plan.rounds}: {kind} of the other software")
            for name, loop in loops.items():
                for task in (task for task in loop.tasks if task.startswith(kind)):
                    peers[name][task].append(loop.measure(task, seconds=plan.seconds).rate)
            if server:
                rate = server.throughput(kind, seconds=plan.seconds, warmup=plan.seconds / 2)
                peers["LitServe"][kind].append(rate)
    return rounds, peers


def _round(ours: Ours, kind: str, seconds: float) -> Round:
    encoder, service = ours.encoder, ours.service
    alone = encoder.measure(kind, batch=1, seconds=seconds / 2)
    one_caller = service.alone(kind, seconds=seconds / 2)
    limit = encoder.measure(kind, batch=ours.batches[kind], seconds=seconds)
    saturated = service.saturated(kind, seconds=seconds, warmup=seconds / 2)
    cached = service.cached(seconds=seconds / 2) if kind == "texts" else None
    return Round(limit, alone, one_caller, saturated, _steps(service, kind, saturated.answers.rate, seconds), cached)


def _steps(service: Service, kind: str, capacity: float, seconds: float) -> Sequence[Step]:
    """Measure each offered rate, long enough for the queue to fill and for a few batches of the largest size."""
    longer = max(2 * seconds, _WAVES * CALLERS[kind] / capacity)
    return [service.offered(kind, load, capacity=capacity, seconds=longer) for load in _LOADS]

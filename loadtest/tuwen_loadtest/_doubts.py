"""Doubts about a measurement: signs that the load was not sent as planned, each with its cause and advice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tuwen_loadtest._model_load import busiest_seconds
from tuwen_loadtest._session import Run
from tuwen_loadtest._verdict import Verdict

__all__ = ["Cause", "Doubt", "doubts_of"]

Cause = Literal["generator", "shared machine", "own machine", "unknown"]
"""The cause of the delay. ``generator``: the load generator used all of the one core that a Locust process can use.
``shared machine``: the server used the same busy processor. ``own machine``: other programs kept the processor of the
load generator's machine busy. ``unknown``: the measurements show no cause."""

_LATE = 0.01  # seconds; a load generator keeps up if it sends at most 1 % of the requests later
_BUSY_CORES = 0.9  # cores; a Locust process can use one
_BUSY_MACHINE = 0.9  # the busy share of all cores of a machine
_WORKERS = "run Locust with several workers"
_ELSEWHERE = "run the load generator on another machine than the server"


@dataclass(frozen=True)
class Doubt:
    """A sign that the load generator could not send the load as planned.

    Attributes:
        text: a sentence with the measurement, its cause and the advice.
        cause: the cause of the delay.
    """

    text: str
    cause: Cause


def doubts_of(judged: Sequence[tuple[Run, Verdict]], *, shared: bool) -> list[Doubt]:
    """Return the doubts about some runs; empty if the load generator kept up.

    Args:
        judged: the runs, each with its verdict.
        shared: whether the server runs on the machine of the load generator.
    """
    lag = max(verdict.summary.lag for _, verdict in judged)
    cores = max(run.generator_cpu for run, _ in judged)
    shares = [share for run, _ in judged for share in run.machine_cpu]
    if shared:
        shares += [reading.cpu for run, _ in judged for reading in run.readings]
    machine = busiest_seconds(shares)
    crowded = machine >= _BUSY_MACHINE  # false without readings, because `machine` is nan then
    late = f"the load generator sent 1 % of the requests {lag * 1e3:.0f} ms late or more"
    if cores > _BUSY_CORES:
        found = f"{late}: it" if lag > _LATE else "the load generator"
        where = ", on another machine than the server" if crowded and shared else ""
        used = f"used {cores:.2f} cores, and one process cannot use more than one"
        return [Doubt(f"{found} {used}; {_WORKERS}{where}", "generator")]
    if not lag > _LATE:
        return []
    used = "" if math.isnan(cores) else f" (the load generator itself used {cores:.2f} cores)"
    if crowded and shared:
        busy = f"it waited for the processor that it shares with the server, which was {machine * 100:.0f} % busy{used}"
        return [Doubt(f"{late}: {busy}; {_ELSEWHERE}", "shared machine")]
    if crowded:
        busy = f"the processor of its machine was {machine * 100:.0f} % busy{used}"
        return [Doubt(f"{late}: {busy}; stop other programs there, or use another machine", "own machine")]
    idle = "" if math.isnan(machine) else f", although its machine was at most {machine * 100:.0f} % busy{used}"
    return [Doubt(f"{late}{idle}; look for a CPU limit of its container, or {_WORKERS}", "unknown")]

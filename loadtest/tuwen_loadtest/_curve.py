"""The curve of a ramp: throughput and latency as the load grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from tuwen_loadtest._samples import Sample
from tuwen_loadtest._slo import Objective, good_seconds
from tuwen_loadtest._summary import Summary, summarise
from tuwen_loadtest._users_over_time import STEPS, users_at

__all__ = ["Curve", "curve_of"]

_SETTLING = 0.25  # the share of each step that is not measured, because the queue still grows


@dataclass(frozen=True)
class Curve:
    """The measurements of one ramp.

    Attributes:
        steps: the summary of each step of the ramp, in the order of time.
        capacity: the highest mean throughput of three consecutive steps, in requests per second. The throughput of a
            single step depends on chance, because one batch is a large part of a step.
        promised: the highest load up to which all objectives were met; 0 if the first step missed an objective, nan
            without objectives. The load is an offered rate in requests per second, or in a closed loop a number of
            callers.
        callers: the number of concurrent callers in each step of a closed loop; empty in an open loop.
    """

    steps: Sequence[Summary]
    capacity: float
    promised: float
    callers: Sequence[int] = ()

    @property
    def loads(self) -> Sequence[float]:
        """The load of each step: the number of callers in a closed loop, otherwise the offered requests per second."""
        return self.callers or [step.offered for step in self.steps]


def curve_of(
    samples: Sequence[Sample], seconds: float, objectives: Sequence[Objective], *, callers: int | None = None
) -> Curve:
    """Return the curve of a ramp.

    Args:
        samples: the requests of the ramp, at least one.
        seconds: the duration of the ramp.
        objectives: the objectives that decide which load can be promised.
        callers: the number of concurrent callers at the end of a closed loop; None for an open loop.
    """
    start, length, good = min(sample.due for sample in samples), seconds / STEPS, good_seconds(objectives)
    steps = [
        summarise(samples, start + (step + _SETTLING) * length, start + (step + 1) * length, good_seconds=good)
        for step in range(STEPS)
    ]
    rates = [step.throughput for step in steps]
    in_steps = [] if callers is None else [users_at("ramp", callers, step / STEPS) for step in range(STEPS)]
    promised = 0.0 if objectives else math.nan
    for place, step in enumerate(steps):
        if not objectives or not all(one.is_met(step.metric(one.metric)) for one in objectives):
            break
        promised = float(in_steps[place]) if in_steps else step.offered
    capacity = max(map(mean, zip(rates, rates[1:], rates[2:], strict=False)))
    return Curve(steps, capacity, promised, in_steps)

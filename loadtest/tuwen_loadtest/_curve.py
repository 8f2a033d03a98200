"""The curve of latency over throughput, measured with a ramp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from tuwen_loadtest._samples import Sample
from tuwen_loadtest._slo import Objective, good_seconds
from tuwen_loadtest._summary import Summary, summarise
from tuwen_loadtest._users_over_time import STEPS

__all__ = ["Curve", "curve_of"]

_SETTLING = 0.25  # of each step, in which the queue grows to its new length


@dataclass(frozen=True)
class Curve:
    """The measurements of ascending rates.

    Attributes:
        steps: the summary of each rate.
        capacity: the highest throughput over three consecutive steps, the knee of the curve. A single step depends on
            chance, because one batch is a large part of a step.
        promised: the highest offered rate up to which all objectives were met; 0 if there is no such rate, nan without
            objectives.
    """

    steps: Sequence[Summary]
    capacity: float
    promised: float


def curve_of(samples: Sequence[Sample], seconds: float, objectives: Sequence[Objective]) -> Curve:
    """Return the curve of a ramp from its samples and its duration."""
    start, length, good = min(sample.due for sample in samples), seconds / STEPS, good_seconds(objectives)
    steps = [
        summarise(samples, start + (step + _SETTLING) * length, start + (step + 1) * length, good_seconds=good)
        for step in range(STEPS)
    ]
    rates = [step.throughput for step in steps]
    promised = 0.0 if objectives else math.nan
    for step in steps:
        if not objectives or not all(one.is_met(step.metric(one.metric)) for one in objectives):
            break
        promised = step.offered
    return Curve(steps, max(map(mean, zip(rates, rates[1:], rates[2:], strict=False))), promised)

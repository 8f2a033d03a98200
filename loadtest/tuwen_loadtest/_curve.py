"""The curve of latency over throughput, from a ramp."""

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
    """What came of ascending rates.

    Attributes:
        steps: one for each rate.
        capacity: the most answers a second over three steps in a row: where the curve turns upwards, its knee. Of
            single steps the best would be the luckiest: a batch more or less is a good part of what one counts.
        promised: the highest rate offered that met all objectives, as did those below it; 0: none did, nan: there are
            no objectives.
    """

    steps: Sequence[Summary]
    capacity: float
    promised: float


def curve_of(samples: Sequence[Sample], seconds: float, objectives: Sequence[Objective]) -> Curve:
    """From the samples of a ramp that took so long."""
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

"""The phases of a scenario: before, during and after the fault."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tuwen_loadtest._samples import Sample
from tuwen_loadtest._summary import Summary, summarise
from tuwen_server.traffic import latency_quantile

__all__ = ["Phases", "phases_of"]

_STEADY = 3  # seconds with good answers, after which the service counts as recovered
_GOOD_SHARE = 0.95


@dataclass(frozen=True)
class Phases:
    """The measurements of a run with a fault in its middle third.

    Attributes:
        before, trouble, after: the summaries of the phases before, during and after the fault.
        begin, end: the begin and the end of the fault, in Unix time.
        recovery: the seconds from the end of the fault until the service was normal: in three consecutive seconds, 95 %
            of the scheduled requests had a good answer. Infinite if the service did not recover.
    """

    before: Summary
    trouble: Summary
    after: Summary
    begin: float
    end: float
    recovery: float


def phases_of(samples: Sequence[Sample], trouble: tuple[float, float], *, warmup: float, good_seconds: float) -> Phases:
    """Return the summaries of the phases before, during and after a fault.

    Args:
        samples: the requests of the run.
        trouble: the begin and the end of the fault, in Unix time.
        warmup: the seconds at the beginning of the run whose requests do not count.
        good_seconds: the maximum latency of a good answer. If infinite, the recovery ends when answers take at most
            twice the p99 of the answers before the fault.
    """
    begin, end = trouble
    first, last = min(one.due for one in samples), max(one.due for one in samples)
    before, during, after = (
        summarise(samples, *span, good_seconds=good_seconds)
        for span in ((min(first + warmup, begin), begin), trouble, (end, max(last, end + 1.0)))
    )
    normal = good_seconds
    if math.isinf(normal):  # of the answers: a lost request would make the p99 of all requests infinite
        waits = [one.seconds for one in samples if one.outcome == "answered" and first + warmup <= one.due < begin]
        normal = 2 * latency_quantile(waits, 0.99)
    return Phases(before, during, after, begin, end, _recovery(samples, end, last, normal))


def _recovery(samples: Sequence[Sample], end: float, last: float, good_seconds: float) -> float:
    for second in range(int(last - end) - _STEADY + 1):
        due = [one for one in samples if end + second <= one.due < end + second + _STEADY]
        good = sum(one.outcome == "answered" and one.seconds <= good_seconds for one in due)
        if due and good >= _GOOD_SHARE * len(due):
            return float(second)
    return float("inf")

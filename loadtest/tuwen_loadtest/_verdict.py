"""The verdict on a run: the objectives that it met or missed, and its statistics as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tuwen_loadtest._samples import Sample
from tuwen_loadtest._slo import Objective, good_seconds, names_good_answers
from tuwen_loadtest._summary import Summary, summarise

__all__ = ["Finding", "Verdict", "judge"]


@dataclass(frozen=True)
class Finding:
    """An expectation of the service, and whether the service met it."""

    text: str
    met: bool

    def __str__(self) -> str:
        return f"{'met' if self.met else 'MISSED':<6} {self.text}"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one run, without its warm-up.

    Attributes:
        summary: the statistics of all requests.
        objectives: the objectives, and whether each was met.
        text: the statistics as text, with a line for each kind of request and a line for all requests.
    """

    summary: Summary
    objectives: Sequence[tuple[Objective, bool]]
    text: str

    @property
    def missed(self) -> list[Objective]:
        """The objectives that were not met."""
        return [one for one, met in self.objectives if not met]


def judge(samples: Sequence[Sample], objectives: Sequence[Objective], *, warmup: float) -> Verdict:
    """Return the verdict on samples. Requests that were scheduled in the first `warmup` seconds do not count."""
    first = min((sample.due for sample in samples), default=0.0)
    start, end = first + warmup, max((sample.due for sample in samples), default=0.0) + 1e-9
    if end <= start:
        start, end = end, end + 1.0  # the run ended in its warm-up, so nothing was measured
    good, shown = good_seconds(objectives), names_good_answers(objectives)
    kinds = sorted({sample.kind for sample in samples})
    by_kind = {kind: [sample for sample in samples if sample.kind == kind] for kind in kinds}
    lines = [_line(kind, summarise(some, start, end, good_seconds=good), good=shown) for kind, some in by_kind.items()]
    summary = summarise(samples, start, end, good_seconds=good)
    lines.append(_line("all", summary, good=shown))
    return Verdict(summary, [(one, one.is_met(summary.metric(one.metric))) for one in objectives], "\n".join(lines))


def _line(name: str, found: Summary, *, good: bool) -> str:
    latencies = ", ".join(f"{quantile} {_milliseconds(seconds)}" for quantile, seconds in found.latencies.items())
    in_time = f", {found.goodput:.1f}/s good" if good else ""
    return (
        f"{name:<10} {found.requests} requests, {found.offered:.1f}/s offered, {found.throughput:.1f}/s answered"
        f"{in_time}; {latencies}; refused {found.refused:.2%}, timed out {found.timeouts:.2%}, "
        f"failed {found.failures:.2%}; sent late by p99 {found.lag * 1e3:.1f} ms"
    )


def _milliseconds(seconds: float) -> str:
    return "unanswered" if math.isinf(seconds) else f"{seconds * 1e3:.0f} ms"

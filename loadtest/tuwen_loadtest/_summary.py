"""What samples come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuwen_loadtest._samples import Outcome, Sample

__all__ = ["Summary", "summarise"]

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


@dataclass(frozen=True)
class Summary:
    """Of the requests that were due in a span of time.

    Attributes:
        requests: how many.
        offered: requests a second.
        throughput: answers a second, by when they came: what waits in a queue is not answered yet.
        goodput: those of them that came within the given latency; all of them without one.
        latencies: of the answers, in seconds from the moment that they were due: ``p50``, ``p90``, ``p99``,
            ``p99.9``, ``max``; nan without any.
        errors, refused, timeouts, failures: shares of the requests; errors are the other three together.
        refusal: the 99th percentile of how long it took until a request was refused, in seconds; nan without any.
        lag: the 99th percentile of how late requests were sent, in seconds: what the load generator adds.
    """

    requests: int
    offered: float
    throughput: float
    goodput: float
    latencies: dict[str, float]
    errors: float
    refused: float
    timeouts: float
    failures: float
    refusal: float
    lag: float

    def metric(self, name: str) -> float:
        """A value by the name that objectives have for it."""
        return self.latencies[name] if name in self.latencies else float(getattr(self, name))


def summarise(samples: Sequence[Sample], start: float, end: float, *, good_seconds: float = np.inf) -> Summary:
    """Of the samples due from `start` to before `end`, in Unix time; an answer within `good_seconds` is good."""
    due = [sample for sample in samples if start <= sample.due < end]
    waits: dict[Outcome, list[float]] = {"answered": [], "refused": [], "timed out": [], "failed": []}
    for sample in due:
        waits[sample.outcome].append(sample.seconds)
    came = [one.seconds for one in samples if one.outcome == "answered" and start <= one.due + one.seconds < end]
    count, seconds, answered = max(1, len(due)), end - start, waits["answered"]
    return Summary(
        requests=len(due),
        offered=len(due) / seconds,
        throughput=len(came) / seconds,
        goodput=sum(wait <= good_seconds for wait in came) / seconds,
        latencies={name: _quantile(answered, share) for name, share in _QUANTILES.items()},
        errors=(len(due) - len(answered)) / count,
        refused=len(waits["refused"]) / count,
        timeouts=len(waits["timed out"]) / count,
        failures=len(waits["failed"]) / count,
        refusal=_quantile(waits["refused"], 0.99),
        lag=_quantile([sample.lag for sample in due], 0.99),
    )


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else float("nan")

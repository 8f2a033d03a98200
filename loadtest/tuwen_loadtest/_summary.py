"""The statistics of the samples in a span of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from tuwen_loadtest._samples import Outcome, Sample
from tuwen_server.traffic import latency_quantile

__all__ = ["Summary", "summarise"]

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


@dataclass(frozen=True)
class Summary:
    """Statistics of the requests whose scheduled start lies in a time span.

    Attributes:
        requests: the number of requests.
        lost: the number of requests without an answer: refused, timed out, failed or unfinished.
        offered: the scheduled requests per second.
        throughput: the answers per second that arrived within the time span.
        goodput: the good answers per second. A good answer arrives within the maximum latency; without a maximum,
            every answer is good.
        latencies: ``p50``, ``p90``, ``p95``, ``p99``, ``p99.9`` and ``max`` over all requests, in seconds since the
            scheduled start of each request. A request without an answer is infinitely late; nan without requests.
        errors, refused, timeouts, failures: the shares of the requests, from 0 to 1; nan without requests. `errors` is
            the sum of `refused`, `timeouts` and `failures`. Unfinished requests count as timeouts.
        refusal: the 99th percentile of the time until a request was refused, in seconds; nan without refusals.
        lag: the 99th percentile of the delay between scheduled and actual start, in seconds. The load generator causes
            this delay.
    """

    requests: int
    lost: int
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
        """Return the value of a metric, by the name that objectives use, such as ``p99``."""
        return self.latencies[name] if name in self.latencies else float(getattr(self, name))


def summarise(samples: Sequence[Sample], start: float, end: float, *, good_seconds: float = math.inf) -> Summary:
    """Return the statistics of the samples that are scheduled from `start` until before `end`.

    Args:
        samples: all samples of a run.
        start, end: the span of time, in Unix time.
        good_seconds: the maximum latency of a good answer in seconds; infinite: all answers are good.
    """
    due = [sample for sample in samples if start <= sample.due < end]
    waits: dict[Outcome, list[float]] = {outcome: [] for outcome in get_args(Outcome)}
    for sample in due:
        waits[sample.outcome].append(sample.seconds)
    came = [one.seconds for one in samples if one.outcome == "answered" and start <= one.due + one.seconds < end]
    seconds, answered = end - start, waits["answered"]
    lost = len(due) - len(answered)

    def share(number: int) -> float:
        return number / len(due) if due else math.nan

    return Summary(
        requests=len(due),
        lost=lost,
        offered=len(due) / seconds,
        throughput=len(came) / seconds,
        goodput=sum(wait <= good_seconds for wait in came) / seconds,
        latencies={name: latency_quantile(answered, part, unanswered=lost) for name, part in _QUANTILES.items()},
        errors=share(lost),
        refused=share(len(waits["refused"])),
        timeouts=share(len(waits["timed out"]) + len(waits["unfinished"])),
        failures=share(len(waits["failed"])),
        refusal=latency_quantile(waits["refused"], 0.99),
        lag=latency_quantile([sample.lag for sample in due], 0.99),
    )

"""The tables of a report, and the explanations of their rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import pairwise
from statistics import median

from tuwen import ModelStatistics
from tuwen.model_names import STEPS, full_name, name_and_model
from tuwen.statistics import Statistics
from tuwen_loadtest._curve import Curve
from tuwen_loadtest._phases import Phases
from tuwen_loadtest._session import Run
from tuwen_loadtest._slo import Objective
from tuwen_loadtest._summary import Summary
from tuwen_loadtest._verdict import Verdict
from tuwen_loadtest._watch import Reading

__all__ = ["model_rows", "phase_rows", "step_head", "step_rows", "summary_rows", "table"]

_MEANINGS = {
    "offered per second": "requests that were scheduled",
    "answered per second": "all answers, late answers too",
    "good per second": "answers within the latency that --slo allows",
    "p50, ms": "half of the requests were answered within this time, counted from their scheduled start",
    "p99, ms": "99 of 100 requests were answered within this time; ∞: more than one in 100 had no answer",
    "refused": "the server was too busy, and rejected the request",
    "timed out": "no answer came within the deadline of a call",
    "failed": "requests with any other error",
    "p99 of a refusal, ms": "99 of 100 refused callers were refused within this time",
    "sent late, p99 ms": "delay that the load generator caused; more than 10 ms makes the numbers doubtful",
    "cores of the load generator": "a load generator can use one core; if it uses all of it, the numbers are doubtful",
    "capacity per second": "the highest mean throughput of three steps of the ramp, whatever the latency",
    "highest load that meets all objectives": "requests per second, or concurrent callers in a closed loop",
}
"""The explanations of rows, by the name of the row."""

_MACHINE = (
    ("processor of the server's machine, % busy", "cpu", 100, "{:.0f}"),
    ("memory in use on that machine, MiB", "memory_mib", 1, "{:.0f}"),
    ("GPUs of that machine, % busy", "gpu", 100, "{:.0f}"),
    ("memory in use on those GPUs, MiB", "gpu_memory_mib", 1, "{:.0f}"),
)
"""The rows with means of readings: the name, the attribute of `Reading`, the factor, and the format of a cell."""
_PART = "└ "


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as HTML. The first cell of a row holds the row's name and its explanation in `_MEANINGS`."""
    found = ['<div class="table"><table><tr>' + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for name, *cells in rows:
        meaning = f"<small>{escape(_MEANINGS[name])}</small>" if name in _MEANINGS else ""
        values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        part = ' class="part"' if name.startswith(_PART) else ""
        found.append(f"<tr{part}><td>{escape(name)}{meaning}</td>{values}</tr>")
    return "\n".join([*found, "</table></div>"])


def phase_rows(phases: Phases, *, good: bool) -> Iterable[list[str]]:
    """Yield the rows of a scenario, with a cell for each phase. If `good` is true, good answers have a row."""
    parts = (phases.before, phases.trouble, phases.after)

    def row(name: str, value: Callable[[Summary], float], shown: str) -> list[str]:
        return [name, *(_cell(value(part), shown) for part in parts)]

    yield row("offered per second", lambda part: part.offered, "{:.1f}")
    yield row("answered per second", lambda part: part.throughput, "{:.1f}")
    if good:
        yield row("good per second", lambda part: part.goodput, "{:.1f}")
    yield row("p50, ms", lambda part: part.latencies["p50"] * 1e3, "{:.0f}")
    yield row("p99, ms", lambda part: part.latencies["p99"] * 1e3, "{:.0f}")
    yield row("refused", lambda part: part.refused, "{:.2%}")
    yield row("p99 of a refusal, ms", lambda part: part.refusal * 1e3, "{:.0f}")
    yield row("timed out", lambda part: part.timeouts, "{:.2%}")
    yield row("failed", lambda part: part.failures, "{:.2%}")


def summary_rows(judged: Sequence[tuple[Run, Verdict]], curves: Sequence[Curve], *, good: bool) -> Iterable[list[str]]:
    """Yield the rows of all repetitions, with a cell for each repetition and a cell for the spread of the values.

    Args:
        judged: the repetitions, each with its verdict.
        curves: the curve of each repetition of a ramp; otherwise empty.
        good: whether good answers have a row.
    """

    def row(name: str, values: Sequence[float], shown: str) -> list[str]:
        middle = median(values)
        spread = (max(values) - min(values)) / middle if middle else 0.0
        return [name, *(_cell(value, shown) for value in values), _cell(spread, "{:.0%}")]

    runs, summaries = [run for run, _ in judged], [verdict.summary for _, verdict in judged]
    yield row("offered per second", [summary.offered for summary in summaries], "{:.1f}")
    yield row("answered per second", [summary.throughput for summary in summaries], "{:.1f}")
    if good:
        yield row("good per second", [summary.goodput for summary in summaries], "{:.1f}")
    for name in summaries[0].latencies:
        yield row(f"{name}, ms", [summary.latencies[name] * 1e3 for summary in summaries], "{:.0f}")
    yield row("refused", [summary.refused for summary in summaries], "{:.2%}")
    yield row("timed out", [summary.timeouts for summary in summaries], "{:.2%}")
    yield row("failed", [summary.failures for summary in summaries], "{:.2%}")
    if any(summary.refused for summary in summaries):
        yield row("p99 of a refusal, ms", [summary.refusal * 1e3 for summary in summaries], "{:.0f}")
    yield row("sent late, p99 ms", [summary.lag * 1e3 for summary in summaries], "{:.1f}")
    own = [
        ("cores of the load generator", [run.generator_cpu for run in runs], "{:.2f}"),
        ("processor of the load generator's machine, % busy", [_mean(run.machine_cpu) * 100 for run in runs], "{:.0f}"),
        ("cores of the server", [run.server_cpu for run in runs], "{:.2f}"),
        ("memory of the server, MiB", [run.server_memory_mib for run in runs], "{:.0f}"),
    ]
    machine = [
        (name, [_mean([getattr(reading, attribute) for reading in run.readings]) * unit for run in runs], shown)
        for name, attribute, unit, shown in _MACHINE
    ]
    cached = ("texts found in the cache", [_cached_share(run.readings) for run in runs], "{:.0%}")
    for name, values, shown in [*own, *machine, cached]:
        if not any(map(math.isnan, values)):
            yield row(name, values, shown)
    if curves:
        yield row("capacity per second", [curve.capacity for curve in curves], "{:.1f}")
        if not any(math.isnan(curve.promised) for curve in curves):
            yield row("highest load that meets all objectives", [curve.promised for curve in curves], "{:.1f}")


def step_head(curves: Sequence[Curve], objectives: Sequence[Objective], *, good: bool) -> list[str]:
    """Return the titles of the columns of `step_rows`."""
    load = ["callers"] if curves[0].callers else []
    rates = ["offered", "answered", *(["good"] if good else [])]
    return ["step", *load, *rates, "p50 ms", "p99 ms", "no answer", *(["met"] if objectives else [])]


def step_rows(curves: Sequence[Curve], objectives: Sequence[Objective], *, good: bool) -> Iterable[list[str]]:
    """Yield a row for each step of a ramp, with the medians of all repetitions.

    Args:
        curves: the curve of each repetition.
        objectives: the objectives of the load test. The last cell says whether the step met all objectives.
        good: whether good answers have a column.
    """
    for place, steps in enumerate(zip(*(curve.steps for curve in curves), strict=True)):
        met = [all(one.is_met(step.metric(one.metric)) for one in objectives) for step in steps]
        verdict = "yes" if all(met) else "no" if not any(met) else f"{sum(met)} of {len(met)}"
        yield [
            f"{place + 1}",
            *([f"{curves[0].callers[place]}"] if curves[0].callers else []),
            _cell(median(step.offered for step in steps), "{:.1f}"),
            _cell(median(step.throughput for step in steps), "{:.1f}"),
            *([_cell(median(step.goodput for step in steps), "{:.1f}")] if good else []),
            _cell(median(step.latencies["p50"] * 1e3 for step in steps), "{:.0f}"),
            _cell(median(step.latencies["p99"] * 1e3 for step in steps), "{:.0f}"),
            _cell(median(step.errors for step in steps), "{:.1%}"),
            *([verdict] if objectives else []),
        ]


def model_rows(models: Statistics) -> Iterable[list[str]]:
    """Yield a row for each model that had requests. An ensemble's row is followed by the rows of its steps."""
    left = {name: counted for name, counted in models.items() if counted.requests + counted.failures}
    prefixes = sorted({found[0] for found in map(name_and_model, left) if found})
    for prefix in prefixes:
        for ensemble, steps in STEPS.items():
            whole = full_name(prefix, ensemble)
            if whole not in left:
                continue
            yield _model_row(whole, left.pop(whole))
            for step in (full_name(prefix, step) for step in steps):
                if step in left:
                    yield _model_row(_PART + step, left.pop(step))
    for name in sorted(left):
        yield _model_row(name, left[name])


def _model_row(name: str, counted: ModelStatistics) -> list[str]:
    requests = max(1, counted.requests)
    return [
        name,
        f"{counted.requests}",
        f"{counted.failures}",
        f"{counted.mean_batch_size:.1f}",
        f"{counted.queue_seconds / requests * 1e3:.1f}",
        f"{counted.compute_seconds / requests * 1e3:.1f}",
    ]


def _cell(value: float, shown: str) -> str:
    return "" if math.isnan(value) else "∞" if math.isinf(value) else shown.format(value)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _cached_share(readings: Sequence[Reading]) -> float:
    """Return the share of texts whose vector was in the server's cache; nan if the server does not report it."""
    hits = _increase([reading.cache_hits for reading in readings])
    texts = hits + _increase([reading.cache_misses for reading in readings])
    return hits / texts if texts else math.nan


def _increase(counter: Sequence[float]) -> float:
    """Return the increase of a counter. If the counter falls, the server was restarted, and counts from 0 again."""
    return sum((now - before if now >= before else now for before, now in pairwise(counter)), 0.0)

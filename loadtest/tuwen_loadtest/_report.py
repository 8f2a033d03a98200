"""A load test as one HTML page with its pictures inside, and as JSON."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from tuwen import ModelCard
from tuwen_loadtest._curve import Curve
from tuwen_loadtest._samples import Sample
from tuwen_loadtest._session import Run
from tuwen_loadtest._slo import Objective
from tuwen_loadtest._verdict import Verdict

mpl.use("Agg")

from matplotlib import pyplot as plt

__all__ = ["Report", "write_report"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr { border-bottom: 1px solid #ddd }
.met { color: #187a3c } .missed { color: #b3261e; font-weight: bold } svg { max-width: 100%; height: auto }
"""


@dataclass(frozen=True)
class Report:
    """Everything that a load test found.

    Attributes:
        title: what was done.
        machine: hardware and versions, by name.
        card: of the model.
        objectives: what was to be met.
        runs: the repetitions, each with its verdict.
        curves: of each repetition, for a ramp; else none.
    """

    title: str
    machine: dict[str, str]
    card: ModelCard
    objectives: Sequence[Objective]
    runs: Sequence[tuple[Run, Verdict]]
    curves: Sequence[Curve]

    @property
    def missed(self) -> list[str]:
        """The objectives that some repetition did not meet: of a ramp, at its lowest rate."""
        if self.curves:
            return [one.text for one in self.objectives if any(curve.promised == 0 for curve in self.curves)]
        return [one.text for one in self.objectives if any(one in verdict.missed for _, verdict in self.runs)]


def write_report(report: Report, folder: Path) -> None:
    """``report.html`` and ``report.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text("\n".join(_page(report)), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(_plain(report), ensure_ascii=False, indent=1), encoding="utf-8")


def _plain(report: Report) -> dict[str, Any]:
    runs = [
        {
            "summary": asdict(verdict.summary),
            "missed": [one.text for one in verdict.missed],
            "models": {name: asdict(counted) for name, counted in run.models.items()},
            "generator_cpu": run.generator_cpu,
            "server_cpu": run.server_cpu,
            "server_memory_mib": run.server_memory_mib,
        }
        for run, verdict in report.runs
    ]
    found = {
        "title": report.title,
        "machine": report.machine,
        "model_card": asdict(report.card),
        "runs": runs,
        "curves": [asdict(curve) for curve in report.curves],
    }
    return _without_nan(found)  # type: ignore[no-any-return]


def _without_nan(value: Any) -> Any:
    """JSON has no nan: what was not measured is null."""
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _page(report: Report) -> Iterable[str]:
    yield f'<!doctype html><meta charset="utf-8"><title>{escape(report.title)}</title><style>{_STYLE}</style>'
    yield f"<h1>{escape(report.title)}</h1>"
    card = report.card
    yield f"<p>{escape(card.checkpoint)}, {card.precision}, fingerprint {escape(card.fingerprint[:16])}…</p>"
    yield from _objectives(report)
    yield "<h2>Repetitions</h2>"
    yield from _table(["", *(f"{place + 1}" for place in range(len(report.runs))), "spread"], _summary_rows(report))
    if report.curves:
        yield "<h2>Latency over throughput</h2>"
        yield _curve_picture(report.curves)
    yield "<h2>The last repetition, second by second</h2>"
    yield _timeline_picture(report.runs[-1][0].samples)
    yield "<h2>What the server did in it</h2>"
    yield from _table(
        ["model", "requests", "refused or failed", "cache hits", "batch", "queue ms", "compute ms"], _model_rows(report)
    )
    yield "<h2>Machine and versions</h2>"
    yield from _table(["", ""], [[name, value] for name, value in report.machine.items()])


def _objectives(report: Report) -> Iterable[str]:
    for one in report.objectives:
        verdict = "missed" if one.text in report.missed else "met"
        yield f'<p class="{verdict}">{verdict}: {escape(one.text)}</p>'


def _summary_rows(report: Report) -> Iterable[list[str]]:
    def row(name: str, values: Sequence[float], shown: str) -> list[str]:
        middle = float(np.median(values))
        spread = (max(values) - min(values)) / middle if middle else 0.0
        return [name, *(shown.format(value) for value in values), f"{spread:.0%}"]

    summaries = [verdict.summary for _, verdict in report.runs]
    for name in ("offered", "throughput", "goodput"):
        yield row(f"{name}, a second", [getattr(summary, name) for summary in summaries], "{:.1f}")
    for name in summaries[0].latencies:
        yield row(f"{name}, ms", [summary.latencies[name] * 1e3 for summary in summaries], "{:.0f}")
    for name in ("refused", "timeouts", "failures"):
        yield row(name, [getattr(summary, name) for summary in summaries], "{:.2%}")
    yield row("sent late, p99 ms", [summary.lag * 1e3 for summary in summaries], "{:.1f}")
    yield row("cores of the load generator", [run.generator_cpu for run, _ in report.runs], "{:.2f}")
    if all(run.server_cpu is not None for run, _ in report.runs):
        yield row("cores of the server", [run.server_cpu or 0.0 for run, _ in report.runs], "{:.2f}")
        yield row("memory of the server, MiB", [run.server_memory_mib or 0.0 for run, _ in report.runs], "{:.0f}")
    if report.curves:
        yield row("capacity, a second", [curve.capacity for curve in report.curves], "{:.1f}")
        if not any(math.isnan(curve.promised) for curve in report.curves):
            yield row("highest rate that meets all", [curve.promised for curve in report.curves], "{:.1f}")


def _model_rows(report: Report) -> Iterable[list[str]]:
    for name, counted in sorted(report.runs[-1][0].models.items()):
        requests = max(1, counted.requests)
        yield [
            name,
            f"{counted.requests}",
            f"{counted.failures}",
            f"{counted.cache_hits}",
            f"{counted.mean_batch_size:.1f}",
            f"{counted.queue_seconds / requests * 1e3:.1f}",
            f"{counted.compute_seconds / requests * 1e3:.1f}",
        ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield "<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</table>"


def _curve_picture(curves: Sequence[Curve]) -> str:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for place, curve in enumerate(curves):
        steps = curve.steps
        label = f"repetition {place + 1}"
        left.plot([step.offered for step in steps], [step.throughput for step in steps], marker="o", label=label)
        for name, line in (("p50", ":"), ("p99", "-")):
            milliseconds = [step.latencies[name] * 1e3 for step in steps]
            answered = [step.throughput for step in steps]
            right.plot(answered, milliseconds, line, marker=".", color=f"C{place}", label=f"{name}, {label}")
    capacity = float(np.median([curve.capacity for curve in curves]))
    left.axhline(capacity, color="#999999", linewidth=1)
    left.annotate(f"knee: {capacity:.1f}/s", (0, capacity), xytext=(4, 4), textcoords="offset points")
    left.set(xlabel="offered, a second", ylabel="answered, a second", xlim=(0, None), ylim=(0, capacity * 1.15))
    right.set(xlabel="answered, a second", ylabel="ms from when it was due", yscale="log", xlim=(0, None))
    left.legend()
    right.legend()
    return _svg(figure)


def _timeline_picture(samples: Sequence[Sample]) -> str:
    start = min(sample.due for sample in samples)
    seconds = np.array([int(sample.due - start) for sample in samples])
    length = int(seconds.max()) + 1
    answered = np.array([sample.outcome == "answered" for sample in samples])
    latencies = np.array([sample.seconds for sample in samples])
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(11, 5), sharex=True)
    upper.plot(np.bincount(seconds, minlength=length), label="due", color="#999999")
    upper.plot(np.bincount(seconds[answered], minlength=length), label="answered", color="C0")
    upper.set(ylabel="requests", ylim=(0, None))
    upper.legend()
    for share, line in ((0.5, ":"), (0.99, "-")):
        of_each = [latencies[answered & (seconds == second)] for second in range(length)]
        quantiles = [np.quantile(some, share) * 1e3 if len(some) else math.nan for some in of_each]
        lower.plot(quantiles, line, color="C0", label=f"p{share * 100:.0f}")
    lower.set(xlabel="seconds", ylabel="ms from when it was due", yscale="log")
    lower.legend()
    return _svg(figure)


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.tight_layout()
    figure.savefig(text, format="svg")
    plt.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]

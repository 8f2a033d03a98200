"""The report of a load test, as one HTML page with embedded charts, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tuwen import ModelCard
from tuwen_files.replacing import replacing
from tuwen_loadtest._answer import Answer
from tuwen_loadtest._charts import curve_picture, timeline_picture
from tuwen_loadtest._curve import Curve
from tuwen_loadtest._phases import Phases
from tuwen_loadtest._session import Run
from tuwen_loadtest._summary import Summary
from tuwen_loadtest._verdict import Finding, Verdict
from tuwen_loadtest._watch import Reading

__all__ = ["Report", "write_report"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  overflow-wrap: anywhere }
h1 { font-size: 1.5rem; line-height: 1.3 } h2 { font-size: 1.15rem; margin-top: 2rem }
.table { overflow-x: auto } table { border-collapse: collapse; margin: 1rem 0; overflow-wrap: normal }
td, th { padding: .25rem .6rem; text-align: right; vertical-align: top }
td:first-child, th:first-child { text-align: left } tr { border-bottom: 1px solid #ddd }
small { color: #5c5c5c; display: block; max-width: 30rem }
.met { color: #187a3c } .missed { color: #b3261e; font-weight: bold }
.chart svg { display: block; max-width: 100%; height: auto } .narrow { display: none }
@media (max-width: 700px) { .wide { display: none } .narrow { display: block } td, th { padding: .25rem .3rem } }
"""

_MEANINGS = {
    "offered, a second": "requests that were due",
    "throughput, a second": "answers that came",
    "answered": "answers that came, a second",
    "goodput, a second": "answers that came in time for the objectives",
    "good": "answers that came in time for the objectives, a second",
    "p50, ms": "half of the requests were answered within this time, from when each was due",
    "p99, ms": "99 of 100 requests were answered within this time; ∞: more than one in 100 had no answer",
    "refused": "the server was too busy and said so at once",
    "timeouts": "no answer came within the deadline of a call",
    "timed out": "no answer came within the deadline of a call",
    "failures": "any other error",
    "failed": "any other error",
    "p99 of a refusal, ms": "how long callers waited until they were refused",
    "sent late, p99 ms": "the load generator's own delay; more than a few ms makes the numbers doubtful",
    "cores of the load generator": "it can use one; a busy generator makes the numbers doubtful",
    "capacity, a second": "the most that was answered over three steps of the ramp, whatever the latency",
    "highest rate that meets all": "the highest rate at which every objective was met",
}
"""What the names of rows mean."""

_MACHINE = (
    ("the server's machine, % busy", "cpu", 100, "{:.0f}"),
    ("its memory in use, MiB", "memory_mib", 1, "{:.0f}"),
    ("its GPUs, % busy", "gpu", 100, "{:.0f}"),
    ("their memory in use, MiB", "gpu_memory_mib", 1, "{:.0f}"),
)
"""Rows of means: the name, the attribute of a reading, a factor, and the format."""


@dataclass(frozen=True)
class Report:
    """The results of a load test.

    Attributes:
        title: the target and the load.
        answer: how much the service holds, and what limits it.
        machine: hardware and versions, by name.
        card: the model card.
        findings: the expectations, and whether each was met.
        doubts: reasons why the load generator may have distorted the numbers.
        runs: the repetitions, each with its verdict.
        curves: the curve of each repetition of a ramp; otherwise empty.
        phases: the phases of each repetition of a scenario; otherwise empty.
    """

    title: str
    answer: Answer
    machine: dict[str, str]
    card: ModelCard
    findings: Sequence[Finding]
    doubts: Sequence[str]
    runs: Sequence[tuple[Run, Verdict]]
    curves: Sequence[Curve] = ()
    phases: Sequence[Phases] = ()

    @property
    def missed(self) -> list[str]:
        """The expectations that were not met."""
        return [finding.text for finding in self.findings if not finding.met]


def write_report(report: Report, folder: Path) -> None:
    """Write ``report.html`` and ``report.json``, each completely or not at all.

    Raises:
        InvalidArgumentError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = json.dumps(_plain(report), ensure_ascii=False, indent=1)
    for name, text in (("report.json", plain), ("report.html", "\n".join(_page(report)))):
        with replacing(folder / name) as scratch:
            scratch.write_text(text, encoding="utf-8")


def _plain(report: Report) -> dict[str, Any]:
    runs = [
        {
            "summary": asdict(verdict.summary),
            "missed": [one.text for one in verdict.missed],
            "models": {name: asdict(counted) for name, counted in run.models.items()},
            "generator_cpu": run.generator_cpu,
            "server_cpu": run.server_cpu,
            "server_memory_mib": run.server_memory_mib,
            "readings": [asdict(reading) for reading in run.readings],
        }
        for run, verdict in report.runs
    ]
    found = {
        "title": report.title,
        "answer": asdict(report.answer),
        "machine": report.machine,
        "model_card": asdict(report.card),
        "findings": [asdict(finding) for finding in report.findings],
        "doubts": list(report.doubts),
        "runs": runs,
        "curves": [asdict(curve) for curve in report.curves],
        "phases": [asdict(phases) for phases in report.phases],
    }
    return _as_json(found)  # type: ignore[no-any-return]


def _as_json(value: Any) -> Any:
    """Return a value for JSON, which has neither nan (null) nor infinity (``"Infinity"``)."""
    if isinstance(value, dict):
        return {name: _as_json(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity"
    return value


def _page(report: Report) -> Iterable[str]:
    yield '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    yield f"<title>{escape(report.title)}</title><style>{_STYLE}</style>"
    answer = report.answer
    yield f"<h1>{escape(answer.sentence[:1].upper() + answer.sentence[1:])}</h1>"
    if answer.reasons:
        yield "<h2>Why</h2><ul>" + "".join(f"<li>{escape(reason)}</li>" for reason in answer.reasons) + "</ul>"
    yield f"<h2>The load</h2><p>{escape(report.title)}</p>"
    card = report.card
    yield f"<p>{escape(card.checkpoint)}, {card.precision}, fingerprint {escape(card.fingerprint[:16])}…</p>"
    yield from _verdict(report)
    for place, phases in enumerate(report.phases):
        yield f"<h2>Before, during and after the trouble{_which(place, report.phases)}</h2>"
        yield from _table(["", "before", "during", "after"], _phase_rows(phases))
    if len(report.runs) > 1:
        yield "<h2>Repetitions</h2>"
        yield from _table(["", *(f"{place + 1}" for place in range(len(report.runs))), "spread"], _summary_rows(report))
    else:
        yield "<h2>Measurements</h2>"
        yield from _table(["", ""], ([name, value] for name, value, _ in _summary_rows(report)))
    if report.curves:
        yield "<h2>Latency over throughput</h2>"
        yield (
            "<p>The rate was raised step by step. First chart: a service that keeps up answers what is offered. "
            "Second chart: the latency rises steeply where requests begin to wait.</p>"
        )
        yield from _chart(partial(curve_picture, report.curves))
    last, _ = report.runs[-1]
    yield f"<h2>{'The last repetition, second' if len(report.runs) > 1 else 'Second'} by second</h2>"
    trouble = (report.phases[-1].begin, report.phases[-1].end) if report.phases else None
    yield from _chart(partial(timeline_picture, last, trouble))
    yield "<h2>What the server did in it</h2>"
    yield (
        "<p>Batch: items that were computed together. Queue and compute: milliseconds that a request waited for its "
        "turn and was computed. All are means.</p>"
    )
    yield from _table(["model", "requests", "refused or failed", "batch", "queue ms", "compute ms"], _model_rows(last))
    yield (
        "<p>The rows of embeddings (image_embedding, text_embedding) are whole requests; their steps have "
        "rows of their own. Triton before 26.05 counts a refusal of a step twice in the rows of embeddings.</p>"
    )
    yield "<h2>Machine and versions</h2>"
    yield from _table(["", ""], [[name, value] for name, value in report.machine.items()])


def _which(place: int, of: Sequence[object]) -> str:
    return f", repetition {place + 1}" if len(of) > 1 else ""


def _verdict(report: Report) -> Iterable[str]:
    for finding in report.findings:
        verdict = "met" if finding.met else "missed"
        yield f'<p class="{verdict}">{verdict}: {escape(finding.text)}</p>'
    for doubt in report.doubts:
        yield f'<p class="missed">in doubt: {escape(doubt)}</p>'


def _phase_rows(phases: Phases) -> Iterable[list[str]]:
    parts = (phases.before, phases.trouble, phases.after)

    def row(name: str, value: Callable[[Summary], float], shown: str) -> list[str]:
        return [name, *(_cell(value(part), shown) for part in parts)]

    yield row("offered, a second", lambda part: part.offered, "{:.1f}")
    yield row("answered", lambda part: part.throughput, "{:.1f}")
    yield row("good", lambda part: part.goodput, "{:.1f}")
    yield row("p50, ms", lambda part: part.latencies["p50"] * 1e3, "{:.0f}")
    yield row("p99, ms", lambda part: part.latencies["p99"] * 1e3, "{:.0f}")
    yield row("refused", lambda part: part.refused, "{:.2%}")
    yield row("p99 of a refusal, ms", lambda part: part.refusal * 1e3, "{:.0f}")
    yield row("timed out", lambda part: part.timeouts, "{:.2%}")
    yield row("failed", lambda part: part.failures, "{:.2%}")


def _cell(value: float, shown: str) -> str:
    return "" if math.isnan(value) else "∞" if math.isinf(value) else shown.format(value)


def _summary_rows(report: Report) -> Iterable[list[str]]:
    def row(name: str, values: Sequence[float], shown: str) -> list[str]:
        middle = float(np.median(values))
        spread = (max(values) - min(values)) / middle if middle else 0.0
        return [name, *(_cell(value, shown) for value in values), _cell(spread, "{:.0%}")]

    summaries = [verdict.summary for _, verdict in report.runs]
    for name in ("offered", "throughput", "goodput"):
        yield row(f"{name}, a second", [getattr(summary, name) for summary in summaries], "{:.1f}")
    for name in summaries[0].latencies:
        yield row(f"{name}, ms", [summary.latencies[name] * 1e3 for summary in summaries], "{:.0f}")
    for name in ("refused", "timeouts", "failures"):
        yield row(name, [getattr(summary, name) for summary in summaries], "{:.2%}")
    yield row("p99 of a refusal, ms", [summary.refusal * 1e3 for summary in summaries], "{:.0f}")
    yield row("sent late, p99 ms", [summary.lag * 1e3 for summary in summaries], "{:.1f}")
    own = [
        ("cores of the load generator", [run.generator_cpu for run, _ in report.runs], "{:.2f}"),
        ("cores of the server", [run.server_cpu for run, _ in report.runs], "{:.2f}"),
        ("memory of the server, MiB", [run.server_memory_mib for run, _ in report.runs], "{:.0f}"),
    ]
    machine = [
        (
            name,
            [_mean([getattr(reading, attribute) for reading in run.readings]) * unit for run, _ in report.runs],
            shown,
        )
        for name, attribute, unit, shown in _MACHINE
    ]
    cached = ("texts found in the cache", [_cached_share(run.readings) for run, _ in report.runs], "{:.0%}")
    for name, values, shown in [*own, *machine, cached]:
        if not any(map(math.isnan, values)):
            yield row(name, values, shown)
    if report.curves:
        yield row("capacity, a second", [curve.capacity for curve in report.curves], "{:.1f}")
        if not any(math.isnan(curve.promised) for curve in report.curves):
            yield row("highest rate that meets all", [curve.promised for curve in report.curves], "{:.1f}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _cached_share(readings: Sequence[Reading]) -> float:
    """Return the share of texts whose vector was in the server's cache; nan if the server does not report it."""
    hits = _increase([reading.cache_hits for reading in readings])
    texts = hits + _increase([reading.cache_misses for reading in readings])
    return hits / texts if texts else math.nan


def _increase(counter: Sequence[float]) -> float:
    """Return the increase of a counter. If the counter falls, a restart has set it to 0."""
    return sum((now - before if now >= before else now for before, now in pairwise(counter)), 0.0)


def _model_rows(run: Run) -> Iterable[list[str]]:
    for name, counted in sorted(run.models.items()):
        if not counted.requests + counted.failures:
            continue
        requests = max(1, counted.requests)
        yield [
            name,
            f"{counted.requests}",
            f"{counted.failures}",
            f"{counted.mean_batch_size:.1f}",
            f"{counted.queue_seconds / requests * 1e3:.1f}",
            f"{counted.compute_seconds / requests * 1e3:.1f}",
        ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield '<div class="table"><table><tr>' + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"
    for name, *cells in rows:
        meaning = f"<small>{escape(_MEANINGS[name])}</small>" if name in _MEANINGS else ""
        values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        yield f"<tr><td>{escape(name)}{meaning}</td>{values}</tr>"
    yield "</table></div>"


def _chart(picture: Callable[..., str]) -> Iterable[str]:
    """Yield a chart in two widths, of which the page shows the one that fits the screen."""
    for name in ("wide", "narrow"):
        yield f'<div class="chart {name}">{picture(narrow=name == "narrow")}</div>'

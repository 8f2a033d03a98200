"""The report of a load test, as one HTML page with embedded charts, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from tuwen import ModelCard
from tuwen_files.replacing import replacing
from tuwen_loadtest._answer import Answer
from tuwen_loadtest._charts import curve_picture, timeline_picture
from tuwen_loadtest._curve import Curve
from tuwen_loadtest._phases import Phases
from tuwen_loadtest._session import Run
from tuwen_loadtest._slo import Objective, good_seconds, names_good_answers
from tuwen_loadtest._tables import model_rows, phase_rows, step_head, step_rows, summary_rows, table
from tuwen_loadtest._verdict import Finding, Verdict

__all__ = ["Report", "write_report"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  overflow-wrap: anywhere }
h1 { font-size: 1.5rem; line-height: 1.3 } h2 { font-size: 1.15rem; margin-top: 2rem }
.table { overflow-x: auto } table { border-collapse: collapse; margin: 1rem 0; overflow-wrap: normal }
td, th { padding: .25rem .6rem; text-align: right; vertical-align: top }
td:first-child, th:first-child { text-align: left } tr { border-bottom: 1px solid #ddd }
.part td:first-child { padding-left: 1.6rem } .part { color: #5c5c5c }
figure { margin: 1rem 0 } figcaption { color: #5c5c5c; font-size: .9rem; max-width: 45rem }
small { color: #5c5c5c; display: block; max-width: 30rem }
.met { color: #187a3c } .missed { color: #b3261e; font-weight: bold }
.chart svg { display: block; max-width: 100%; height: auto } .narrow { display: none }
@media (max-width: 700px) { .wide { display: none } .narrow { display: block }
  td, th { padding: .25rem .2rem; font-size: .8rem } .part td:first-child { padding-left: 1rem } }
"""
_LATENCY = "Latency counts from the scheduled start of a request."
_UNANSWERED = " ▲: an infinite percentile, because requests had no answer."


@dataclass(frozen=True)
class Report:
    """The results of a load test.

    Attributes:
        title: the target and the load of the test, in one line.
        answer: the answer of the test: how much the service holds, and what limits it.
        machine: the processor and the versions of the software, by name.
        card: the model card of the server.
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
            "machine_cpu": list(run.machine_cpu),
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
    """Return a value that JSON can hold: nan becomes null, and infinity becomes ``"Infinity"``."""
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
    objectives = [one for one, _ in report.runs[0][1].objectives]
    good = names_good_answers(objectives)
    for place, phases in enumerate(report.phases):
        yield f"<h2>Before, during and after the trouble{_which(place, report.phases)}</h2>"
        yield table(["", "before", "during", "after"], phase_rows(phases, good=good))
    if report.curves:
        yield from _ramp(report.curves, objectives, good=good)
    yield from _timeline(report)
    yield f"<h2>{'All repetitions' if len(report.runs) > 1 else 'All measurements'}</h2>"
    if report.curves:
        yield "<p>All steps of the ramp together, so the latencies include those above the capacity.</p>"
    rows = summary_rows(report.runs, report.curves, good=good)
    if len(report.runs) > 1:
        yield table(["repetition", *(f"{place + 1}" for place in range(len(report.runs))), "spread"], rows)
    else:
        yield table(["", ""], ([name, value] for name, value, _ in rows))
    if not good:
        yield "<p>With an objective such as <code>--slo 'p99&lt;200ms'</code>, the report also counts good answers.</p>"
    yield f"<h2>The models of the server{', last repetition' if len(report.runs) > 1 else ''}</h2>"
    yield (
        "<p>Each request to an embedding passes through the steps below it (└). Batch: the mean number of items that "
        "were computed together. Queue and compute: mean milliseconds that a request waited, and was computed.</p>"
    )
    last, _ = report.runs[-1]
    yield table(["model", "requests", "refused or failed", "batch", "queue ms", "compute ms"], model_rows(last.models))
    yield "<p>Triton before 26.05 counts a refusal of a step twice in the row of the embedding.</p>"
    yield "<h2>Machine and versions</h2>"
    yield table(["", ""], [[name, value] for name, value in report.machine.items()])


def _which(place: int, of: Sequence[object]) -> str:
    return f", repetition {place + 1}" if len(of) > 1 else ""


def _verdict(report: Report) -> Iterable[str]:
    for finding in report.findings:
        verdict = "met" if finding.met else "missed"
        yield f'<p class="{verdict}">{verdict}: {escape(finding.text)}</p>'
    for doubt in (doubt for doubt in report.doubts if doubt not in report.answer.reasons):
        yield f'<p class="missed">in doubt: {escape(doubt)}</p>'


def _ramp(curves: Sequence[Curve], objectives: Sequence[Objective], *, good: bool) -> Iterable[str]:
    yield "<h2>The ramp, step by step</h2>"
    load = "number of callers" if curves[0].callers else "rate"
    units = "Offered, answered and good are per second." if good else "Offered and answered are per second."
    medians = f" The cells are medians of {len(curves)} repetitions." if len(curves) > 1 else ""
    met = " Met says whether the step met all objectives." if objectives else ""
    yield f"<p>The {load} was raised in {len(curves[0].steps)} steps. {units}{medians}{met}</p>"
    yield table(step_head(curves, objectives, good=good), step_rows(curves, objectives, good=good))
    if curves[0].callers:
        caption = "Answers level off where the service is busy all the time; more callers then only wait longer."
    else:
        caption = (
            "A service that keeps up answers what is offered. Where answers leave the grey diagonal, requests wait in "
            "queues, and the latency rises steeply."
        )
    draw = partial(curve_picture, curves, good_seconds=good_seconds(objectives))
    marked = any(math.isinf(step.latencies["p99"]) for curve in curves for step in curve.steps)
    caption = f"{caption} {_LATENCY}{_UNANSWERED if marked else ''}"
    yield from _chart(draw, "Answers per second, and latency, over the load.", caption)


def _timeline(report: Report) -> Iterable[str]:
    last, _ = report.runs[-1]
    yield f"<h2>Second by second{', last repetition' if len(report.runs) > 1 else ''}</h2>"
    trouble = (report.phases[-1].begin, report.phases[-1].end) if report.phases else None
    caption = f"{_LATENCY} The latencies of a second are those of the requests that were scheduled in this second."
    if any(sample.outcome != "answered" for sample in last.samples):
        caption += _UNANSWERED
    yield from _chart(partial(timeline_picture, last, trouble), "Requests, latency and busy steps by second.", caption)


def _chart(picture: Callable[..., str], label: str, caption: str) -> Iterable[str]:
    """Yield a chart in two widths, of which the page shows the one that fits the screen."""
    yield f'<figure role="group" aria-label="{escape(label)}">'
    for name in ("wide", "narrow"):
        yield f'<div class="chart {name}">{picture(narrow=name == "narrow")}</div>'
    yield f"<figcaption>{escape(caption)}</figcaption></figure>"

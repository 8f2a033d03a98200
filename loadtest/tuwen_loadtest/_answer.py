"""The answer of a load test in one sentence: how much the service holds, and what limits it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median

from tuwen_loadtest._curve import Curve
from tuwen_loadtest._model_load import STEP_NAMES, busiest_seconds
from tuwen_loadtest._session import Run
from tuwen_loadtest._slo import Objective
from tuwen_loadtest._summary import Summary
from tuwen_loadtest._verdict import Finding, Verdict

__all__ = ["Answer", "answer_of_curves", "answer_of_runs", "answer_of_scenario", "limit_of", "unit_of"]

_BUSY = 0.8  # of the time: a step that is busy for less does not hold the others up
_KEEPS_UP = 0.95  # of the offered requests
_ADVICE: Mapping[str, str] = {
    "vision_encoder": "to hold more, run `tuwen tune`, build with a faster precision, or add servers",
    "text_encoder": "to hold more, run `tuwen tune`, build with a faster precision, or add servers",
    "image_preprocessing": "to hold more, give the server more cores, or let clients decode (preprocess='client')",
    "text_tokenization": "to hold more, give the server more cores, or add servers",
}


@dataclass(frozen=True)
class Answer:
    """What a load test found.

    Attributes:
        sentence: how much the service holds, and what limits it.
        reasons: sentences with the measurements behind it, and what to do.
    """

    sentence: str
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Limit:
    """What holds the service up.

    Attributes:
        text: such as ``limited by the vision encoder (busy 96 %)``.
        reasons: the measurements, and what to do.
    """

    text: str
    reasons: Sequence[str] = ()


def answer_of_curves(
    curves: Sequence[Curve], objectives: Sequence[Objective], runs: Sequence[Run], doubts: Sequence[str]
) -> Answer:
    """Return the answer of ramps: the highest rate that the service holds."""
    unit, capacity = unit_of(runs), median(curve.capacity for curve in curves)
    limit = limit_of(runs, doubts, overloaded=not all(_keeps_up(step) for curve in curves for step in curve.steps))
    reasons = [f"the most that it answered, whatever the latency: {_number(capacity)} {unit}"]
    steps = curves[-1].steps
    if objectives:
        promised = median(curve.promised for curve in curves)
        held = f"holds {_number(promised)} {unit} at {_listed(objectives)}"
        if not promised:
            held = f"does not hold {_listed(objectives)}, even at {_number(steps[0].offered)} {unit}"
        reasons += _first_miss(steps, objectives, unit)
    else:
        # Behind the first step that falls behind, a step may answer what waited since earlier ones.
        kept = [step for step in takewhile(_keeps_up, steps) if step.offered * _KEEPS_UP <= capacity]
        held = f"holds {_number(kept[-1].offered)} {unit} at p99 {_milliseconds(kept[-1])}" if kept else ""
        held = held or f"answers {_number(capacity)} {unit} at most"
    return Answer(f"{held}; {limit.text}", [*reasons, *limit.reasons])


def answer_of_runs(
    judged: Sequence[tuple[Run, Verdict]], objectives: Sequence[Objective], doubts: Sequence[str]
) -> Answer:
    """Return the answer of runs under one load: whether the service holds it."""
    runs = [run for run, _ in judged]
    unit, plan = unit_of(runs), runs[0].plan
    summaries = [verdict.summary for _, verdict in judged]
    middle = sorted(summaries, key=lambda one: one.throughput)[len(summaries) // 2]
    missed = {one.text: one for _, verdict in judged for one in verdict.missed}
    kept = all(map(_keeps_up, summaries))
    limit = limit_of(runs, doubts, overloaded=bool(missed) or not plan.open_loop or not kept)
    amount = f"{_number(middle.offered)} {unit}" if plan.open_loop else f"{plan.users} concurrent callers"
    if missed:
        held = f"does not hold {amount}: missed {_listed(list(missed.values()))}"
    elif objectives:
        held = f"holds {amount} at {_listed(objectives)}"
    elif plan.open_loop:
        held = f"answers {_number(middle.throughput)} of {amount} at p99 {_milliseconds(middle)}"
    else:
        held = f"answers {_number(middle.throughput)} {unit} to {amount} at p99 {_milliseconds(middle)}"
    reasons = [f"measured: {_number(middle.throughput)} {unit} answered, p99 {_milliseconds(middle)}"]
    return Answer(f"{held}; {limit.text}", [*reasons, *limit.reasons])


def answer_of_scenario(name: str, findings: Sequence[Finding]) -> Answer:
    """Return the answer of a scenario: whether the service met every expectation."""
    missed = [finding.text for finding in findings if not finding.met]
    if not missed:
        return Answer(f"withstands {name}: all {len(findings)} expectations were met")
    return Answer(f"does not withstand {name}: {len(missed)} of {len(findings)} expectations were missed", missed)


def limit_of(runs: Sequence[Run], doubts: Sequence[str], *, overloaded: bool) -> Limit:
    """Return what holds the service up.

    Args:
        doubts: reasons to think that the load generator does.
        overloaded: whether the service was offered more than it answered in time.
    """
    loads = [load for run in runs for load in run.loads]
    shares = {
        model: busiest_seconds([load.busy[model] for load in loads if model in load.busy]) for model in STEP_NAMES
    }
    busy = {model: share for model, share in shares.items() if share > 0}  # nan is not
    listed = ", ".join(f"{STEP_NAMES[model]} {share * 100:.0f} %" for model, share in busy.items())
    reasons = [f"busy in the busiest five seconds: {listed}"] if busy else []
    model = max(busy, key=lambda name: busy[name], default="")
    if doubts:
        if model and busy[model] >= _BUSY:
            text = f"probably limited by the {STEP_NAMES[model]} (busy {busy[model] * 100:.0f} %)"
            return Limit(f"{text}, but the load generator was too slow to be sure", [*doubts, *reasons])
        return Limit("limited by the load generator, so the service may hold more", [*doubts, *reasons])
    if not overloaded:
        return Limit("no limit was reached", [*reasons, "a higher load would show what limits it"])
    processor = busiest_seconds([reading.cpu for run in runs for reading in run.readings])
    if processor >= _BUSY:
        reasons.append(f"the processor of the server's machine was busy {processor * 100:.0f} %")
    if model and busy[model] >= _BUSY:
        return Limit(f"limited by the {STEP_NAMES[model]} (busy {busy[model] * 100:.0f} %)", [*reasons, _ADVICE[model]])
    if processor >= _BUSY:
        return Limit(f"limited by the processor of the server's machine (busy {processor * 100:.0f} %)", reasons)
    return Limit("what limits it is not known: no step of the server was busy all the time", reasons)


def unit_of(runs: Sequence[Run]) -> str:
    """Return the unit of rates: images, texts or mixed requests a second."""
    kinds = {sample.kind for run in runs for sample in run.samples}
    return {frozenset({"image"}): "images/s", frozenset({"text"}): "texts/s"}.get(frozenset(kinds), "requests/s")


def _first_miss(steps: Sequence[Summary], objectives: Sequence[Objective], unit: str) -> list[str]:
    for step in steps:
        missed = [one for one in objectives if not one.is_met(step.metric(one.metric))]
        if missed:
            return [f"at {_number(step.offered)} {unit}, p99 is {_milliseconds(step)}: misses {_listed(missed)}"]
    return []


def _keeps_up(step: Summary) -> bool:
    return step.throughput >= _KEEPS_UP * step.offered


def _listed(objectives: Sequence[Objective]) -> str:
    return ", ".join(_spaced(one.text) for one in objectives)


def _spaced(objective: str) -> str:
    """Return an objective with spaces: ``p99 < 200 ms``."""
    name, comparison, bound = re.split(r"\s*(<=|>=|<|>)\s*", objective, maxsplit=1)
    spaced = re.sub(r"(?<=[0-9])(ms|s|%)$", r" \1", bound)
    return f"{name} {comparison} {spaced}"


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def _milliseconds(summary: Summary) -> str:
    seconds = summary.latencies["p99"]
    return "unanswered" if math.isinf(seconds) else f"{seconds * 1e3:.0f} ms"

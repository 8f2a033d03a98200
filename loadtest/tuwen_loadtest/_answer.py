"""The answer of a load test in one sentence: how much the service holds, and what limits it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median

from tuwen_loadtest._curve import Curve
from tuwen_loadtest._doubts import Doubt
from tuwen_loadtest._model_load import STEP_NAMES, busiest_seconds
from tuwen_loadtest._session import Run
from tuwen_loadtest._slo import Objective
from tuwen_loadtest._summary import Summary
from tuwen_loadtest._verdict import Finding, Verdict

__all__ = ["Answer", "answer_of_curves", "answer_of_runs", "answer_of_scenario", "limit_of", "unit_of"]

_BUSY = 0.8  # the share of the time from which on a step counts as the limit
_KEEPS_UP = 0.95  # the share of the offered requests that a service answers if it keeps up
_ADVICE: Mapping[str, str] = {
    "vision_encoder": "to hold more, run `tuwen tune`, build with a faster precision, or add servers",
    "text_encoder": "to hold more, run `tuwen tune`, build with a faster precision, or add servers",
    "image_preprocessing": "to hold more, give the server more cores, or let clients decode (preprocess='client')",
    "text_tokenization": "to hold more, give the server more cores, or add servers",
}


@dataclass(frozen=True)
class Answer:
    """The answer of a load test.

    Attributes:
        sentence: a sentence that says how much the service holds, and what limits it.
        reasons: the measurements behind the sentence, and the advice.
    """

    sentence: str
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Limit:
    """The limit of the service.

    Attributes:
        text: the second half of the answer, such as ``limited by the vision encoder (busy 96 %)``.
        reasons: the measurements behind the text, and the advice.
    """

    text: str
    reasons: Sequence[str] = ()


def answer_of_curves(
    curves: Sequence[Curve], objectives: Sequence[Objective], runs: Sequence[Run], doubts: Sequence[Doubt]
) -> Answer:
    """Return the answer of a test with ramps: the highest load that the service holds.

    Args:
        curves: the curve of each repetition.
        objectives: the objectives that the service has to meet; empty: the service has to keep up with the load.
        runs: the measurements of each repetition.
        doubts: the signs that the load generator did not send the load as planned.
    """
    unit, capacity = unit_of(runs), median(curve.capacity for curve in curves)
    steps, callers = curves[-1].steps, curves[-1].callers
    fell_behind = not all(_keeps_up(step) for curve in curves for step in curve.steps)
    limit = limit_of(runs, doubts, overloaded=fell_behind or bool(callers))
    reasons = [f"highest mean throughput of three steps, whatever the latency: {_number(capacity)} {unit}"]
    if not fell_behind and not callers:
        highest = max(step.offered for curve in curves for step in curve.steps)
        reasons = [f"the ramp ended at {_number(highest)} {unit}, before the service fell behind"]
    if objectives:
        promised = median(curve.promised for curve in curves)
        held = f"holds {_amount(promised, unit, callers)} at {_listed(objectives)}"
        if not promised:
            held = f"does not hold {_listed(objectives)}, even at {_amount(curves[-1].loads[0], unit, callers)}"
        reasons += _first_miss(curves[-1], objectives, unit)
    elif callers:
        held = f"answers {_number(capacity)} {unit} at most, to up to {callers[-1]} concurrent callers"
    else:
        # After the first step that falls behind, a step may answer requests that waited since an earlier step.
        kept = [step for step in takewhile(_keeps_up, steps) if step.offered * _KEEPS_UP <= capacity]
        held = f"holds {_number(kept[-1].offered)} {unit} at p99 {_milliseconds(kept[-1])}" if kept else ""
        held = held or f"answers {_number(capacity)} {unit} at most"
    return Answer(f"{held}; {limit.text}", [*reasons, *limit.reasons])


def answer_of_runs(
    judged: Sequence[tuple[Run, Verdict]], objectives: Sequence[Objective], doubts: Sequence[Doubt]
) -> Answer:
    """Return the answer of a test with one constant load: whether the service holds the load.

    Args:
        judged: the measurements of each repetition, with the verdict on them.
        objectives: the objectives that the service has to meet.
        doubts: the signs that the load generator did not send the load as planned.
    """
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
    """Return the answer of a scenario: whether the service met every expectation, and which expectations it missed."""
    missed = [finding.text for finding in findings if not finding.met]
    if not missed:
        return Answer(f"withstands {name}: met {len(findings)} of {len(findings)} expectations")
    return Answer(f"does not withstand {name}: missed {len(missed)} of {len(findings)} expectations", missed)


def limit_of(runs: Sequence[Run], doubts: Sequence[Doubt], *, overloaded: bool) -> Limit:
    """Return what limits the service: a busy step of the server, the server's processor, or the load generator.

    Args:
        runs: the measurements.
        doubts: the signs that the load generator did not send the load as planned.
        overloaded: whether more requests were sent than the service answered in time.
    """
    loads = [load for run in runs for load in run.loads]
    shares = {
        model: busiest_seconds([load.busy[model] for load in loads if model in load.busy]) for model in STEP_NAMES
    }
    busy = {model: share for model, share in shares.items() if share > 0}  # a comparison with nan is false
    listed = ", ".join(f"{STEP_NAMES[model]} {share * 100:.0f} %" for model, share in busy.items())
    reasons = [f"busy share of each step in its busiest five seconds: {listed}"] if busy else []
    model = max(busy, key=lambda name: busy[name], default="")
    step = f"{STEP_NAMES[model]} (busy {busy[model] * 100:.0f} %)" if model and busy[model] >= _BUSY else ""
    if doubts:
        return Limit(_doubtful(doubts, step), [*(doubt.text for doubt in doubts), *reasons])
    if not overloaded:
        return Limit("no limit was reached", [*reasons, "a higher load would show what limits it"])
    processor = busiest_seconds([reading.cpu for run in runs for reading in run.readings])
    if processor >= _BUSY:
        reasons.append(f"the processor of the server's machine was busy {processor * 100:.0f} %")
    if step:
        return Limit(f"limited by the {step}", [*reasons, _ADVICE[model]])
    if processor >= _BUSY:
        return Limit(f"limited by the processor of the server's machine (busy {processor * 100:.0f} %)", reasons)
    return Limit("the limit is not known, because no step of the server was busy all the time", reasons)


def _doubtful(doubts: Sequence[Doubt], step: str) -> str:
    """Return the limit of runs with doubts. `step` names the busy step of the server; empty: no step was busy."""
    if any(doubt.cause == "shared machine" for doubt in doubts):
        shared = "shares the processor with the load generator"
        return f"limited by the {step}, which {shared}" if step else f"limited by the processor: the server {shared}"
    if step:
        return f"probably limited by the {step}, but the load generator was too slow to be sure"
    return "limited by the load generator, so the service may hold more"


def _amount(load: float, unit: str, callers: Sequence[int]) -> str:
    return f"{load:.0f} concurrent callers" if callers else f"{_number(load)} {unit}"


def unit_of(runs: Sequence[Run]) -> str:
    """Return the unit of the rates in an answer: ``images/s``, ``texts/s``, or ``requests/s`` for mixed requests."""
    kinds = {sample.kind for run in runs for sample in run.samples}
    return {frozenset({"image"}): "images/s", frozenset({"text"}): "texts/s"}.get(frozenset(kinds), "requests/s")


def _first_miss(curve: Curve, objectives: Sequence[Objective], unit: str) -> list[str]:
    for step, load in zip(curve.steps, curve.loads, strict=True):
        missed = [one for one in objectives if not one.is_met(step.metric(one.metric))]
        if missed:
            amount = _amount(load, unit, curve.callers)
            return [f"at {amount}, p99 is {_milliseconds(step)}: misses {_listed(missed)}"]
    return []


def _keeps_up(step: Summary) -> bool:
    return step.throughput >= _KEEPS_UP * step.offered


def _listed(objectives: Sequence[Objective]) -> str:
    return ", ".join(_spaced(one.text) for one in objectives)


def _spaced(objective: str) -> str:
    """Return an objective with spaces, such as ``p99 < 200 ms`` for ``p99<200ms``."""
    name, comparison, bound = re.split(r"\s*(<=|>=|<|>)\s*", objective, maxsplit=1)
    spaced = re.sub(r"(?<=[0-9])(ms|s|%)$", r" \1", bound)
    return f"{name} {comparison} {spaced}"


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def _milliseconds(summary: Summary) -> str:
    seconds = summary.latencies["p99"]
    return "unanswered" if math.isinf(seconds) else f"{seconds * 1e3:.0f} ms"

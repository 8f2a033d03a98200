"""The answer of a load test: one sentence that says what rate the service sustains, and what limits this rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tuwen import ModelStatistics
from tuwen_loadtest._answer import answer_of_curves, answer_of_runs, answer_of_scenario, limit_of
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._curve import Curve
from tuwen_loadtest._doubts import Cause, Doubt
from tuwen_loadtest._model_load import ModelLoad, busiest_seconds, load_between
from tuwen_loadtest._samples import Sample
from tuwen_loadtest._session import Plan, Run
from tuwen_loadtest._slo import parse_slo
from tuwen_loadtest._verdict import Finding, judge
from tuwen_loadtest._watch import Reading
from tuwen_loadtest.options import PayloadOptions


def run(
    *,
    seconds: float = 0.05,
    kind: str = "image",
    busy: Mapping[str, float] | None = None,
    cpu: float = math.nan,
    **plan: Any,
) -> Run:
    """Return a run of 40 requests per second for 20 seconds.

    Args:
        seconds: the latency of every request.
        kind: the kind of every request.
        busy: the busy share of each model of the server, by the model's name; None: not known.
        cpu: the busy share of the processor of the server's machine.
        plan: values of `Plan` that differ from an open loop of 40 users.
    """
    load = {"open_loop": True, "users": 40, "shape": "steady", "seconds": 20.0, **plan}
    samples = [Sample(kind, 1000 + number / 40, 0.0, seconds, "answered") for number in range(800)]
    return Run(
        Plan(Connection("server:8001"), deadline=30.0, kinds=(), payloads=PayloadOptions(), **load),
        samples,
        {},
        [Reading(1000.0 + second, cpu, 0.0, math.nan, math.nan) for second in range(20)],
        0.5,
        math.nan,
        math.nan,
        loads=[ModelLoad(1000.0 + second, 40.0, busy or {}) for second in range(20)],
    )


def answer(one: Run, slo: str = "", cause: Cause | None = None) -> str:
    """Return the sentence of the answer for one run. If `cause` is given, the run is in doubt for this cause."""
    doubts = [Doubt("it sent 1 % late", cause)] if cause else []
    objectives = parse_slo(slo) if slo else ()
    return answer_of_runs([(one, judge(one.samples, objectives, warmup=0))], objectives, doubts).sentence


def test_the_answer_states_the_rate_the_objective_and_the_limit() -> None:
    slow = run(seconds=0.4, busy={"vision_encoder": 0.96, "image_preprocessing": 0.4})
    assert answer(slow, "p99<200ms") == (
        "does not hold 40 images/s: missed p99 < 200 ms; limited by the vision encoder (busy 96 %)"
    )
    assert answer(run(), "p99<200ms,errors<0.1%") == (
        "holds 40 images/s at p99 < 200 ms, errors < 0.1 %; no limit was reached"
    )


def test_a_ramp_holds_the_last_rate_before_the_service_falls_behind() -> None:
    """The sustained rate is the rate of the last step before the service first falls behind.

    A later step may look as if the service kept up, because one batch is a large part of a short step.
    """
    one = run(shape="ramp")
    measured = judge(one.samples, (), warmup=0).summary
    rates = ((5.0, 5.0), (10.0, 7.0), (15.0, 14.9))
    steps = [replace(measured, offered=offered, throughput=answered) for offered, answered in rates]
    found = answer_of_curves([Curve(steps, 8.0, math.nan)], (), [one], ()).sentence
    assert found.startswith("holds 5.0 images/s at p99")
    assert "no limit was reached" not in found
    found = answer_of_curves([Curve(steps[:1], 5.0, math.nan)], (), [one], ()).reasons[0]
    assert found == "the ramp ended at 5.0 images/s, before the service fell behind"
    never = [replace(step, throughput=2.0) for step in steps]
    found = answer_of_curves([Curve(never, 2.0, math.nan)], (), [one], ()).sentence
    assert found.startswith("answers 2.0 images/s at most")


def test_a_closed_loop_always_has_a_limit() -> None:
    callers = run(open_loop=False, users=32, kind="text", busy={"text_encoder": 0.91})
    assert answer(callers).startswith(
        "answers 40 texts/s to 32 concurrent callers at p99 50 ms; limited by the text enc"
    )


def test_a_slow_load_generator_is_the_limit() -> None:
    one = run(seconds=0.4, busy={"vision_encoder": 0.4})
    assert "; limited by the load generator, so" in answer(one, "p99<200ms", "generator")
    both = run(seconds=0.4, busy={"vision_encoder": 0.96})
    doubtful = "; probably limited by the vision encoder (busy 96 %), but the load generator was too slow to be sure"
    assert answer(both, "p99<200ms", "unknown").endswith(doubtful)


def test_a_processor_that_server_and_load_generator_share_is_the_limit() -> None:
    idle, busy = run(seconds=0.4, busy={"vision_encoder": 0.4}), run(seconds=0.4, busy={"vision_encoder": 0.96})
    shares = "shares the processor with the load generator"
    assert answer(idle, "p99<200ms", "shared machine").endswith(f"; limited by the processor: the server {shares}")
    limit = f"; limited by the vision encoder (busy 96 %), which {shares}"
    assert answer(busy, "p99<200ms", "shared machine").endswith(limit)


def test_a_ramp_of_callers_holds_the_highest_number_that_meets_all_objectives() -> None:
    one = run(shape="ramp", open_loop=False, users=16, busy={"vision_encoder": 0.96})
    measured = judge(one.samples, (), warmup=0).summary
    late = {**measured.latencies, "p99": 0.3}
    steps = [measured, measured, replace(measured, latencies=late)]

    def answered(slo: str, promised: float) -> tuple[str, Sequence[str]]:
        objectives = parse_slo(slo) if slo else ()
        found = answer_of_curves([Curve(steps, 8.0, promised, (2, 4, 6))], objectives, [one], ())
        return found.sentence, found.reasons

    limit = "limited by the vision encoder (busy 96 %)"
    sentence, reasons = answered("p99<200ms", 4.0)
    assert sentence == f"holds 4 concurrent callers at p99 < 200 ms; {limit}"
    assert "at 6 concurrent callers, p99 is 300 ms: misses p99 < 200 ms" in reasons
    sentence, _ = answered("p99<10ms", 0.0)
    assert sentence == f"does not hold p99 < 10 ms, even at 2 concurrent callers; {limit}"
    sentence, _ = answered("", math.nan)
    assert sentence == f"answers 8.0 images/s at most, to up to 6 concurrent callers; {limit}"


@pytest.mark.parametrize(
    ("busy", "cpu", "text"),
    [
        ({"vision_encoder": 0.5}, 0.97, "limited by the processor of the server's machine (busy 97 %)"),
        ({"vision_encoder": 0.5}, 0.3, "the limit is not known, because no step of the server was busy all the time"),
        ({}, math.nan, "the limit is not known, because no step of the server was busy all the time"),
        (
            {"image_preprocessing": 0.9, "vision_encoder": 0.8},
            0.9,
            "limited by the preprocessing of images (busy 90 %)",
        ),
    ],
)
def test_the_busiest_step_is_the_limit(busy: Mapping[str, float], cpu: float, text: str) -> None:
    limit = limit_of([run(busy=busy, cpu=cpu)], (), overloaded=True)
    assert limit.text == text
    assert all("vision encoder" in reason for reason in limit.reasons if reason.startswith("busy share of each step"))


def test_the_answer_of_a_scenario_lists_missed_expectations() -> None:
    findings = [Finding("recovers within 10 s", True), Finding("refuses fast", False)]
    assert answer_of_scenario("overload", findings).sentence == (
        "does not withstand overload: missed 1 of 2 expectations"
    )
    assert answer_of_scenario("overload", findings).reasons == ["refuses fast"]
    assert answer_of_scenario("restart", findings[:1]).sentence == "withstands restart: met 1 of 1 expectations"


def test_the_time_of_a_batch_counts_once_in_the_busy_share() -> None:
    """The busy share counts the time of a batch once, although Triton adds it to every request of the batch.

    Ten batches of 80 ms in one second on two instances are 0.8 s of 2 s, a share of 40 %.
    """
    encoder = ModelStatistics(requests=40, executions=10, items=40, compute_seconds=40 * 0.08)
    other = ModelStatistics(requests=40, executions=40, items=40, compute_seconds=40)
    embedded = ModelStatistics(requests=40)
    changes = [{"b16_vision_encoder": encoder, "b16_image_embedding": embedded, "vision_encoder": other}]
    load = load_between(changes, {"vision_encoder": 2, "text_encoder": 1}, 1.0, 1001.0, name="b16")
    assert load.busy == {"vision_encoder": pytest.approx(0.4), "text_encoder": 0}
    assert load.answered == 40


def test_the_busiest_five_seconds_are_the_highest_mean_of_five_readings() -> None:
    assert busiest_seconds([0, 0, 1, 0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0.5]) == pytest.approx(0.5)
    assert busiest_seconds([0.5, math.nan]) == 0.5
    assert math.isnan(busiest_seconds([]))

"""Whole load tests of a scripted service with known latencies: the load that it gets, and the verdict on it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pytest

from tests.support.grpc_server import GrpcServer
from tuwen import ModelStatistics
from tuwen_loadtest import load_test as module
from tuwen_loadtest._samples import Sample
from tuwen_loadtest._session import Plan, Run
from tuwen_loadtest._target import Target
from tuwen_loadtest._users_over_time import users_at
from tuwen_loadtest._watch import Reading
from tuwen_loadtest.load_test import Connection, LoadTestOptions, Report, load_test, parse_slo, write_report


@dataclass
class Service:
    """A scripted service that takes the place of Locust and the server.

    It answers 40 requests per second after 50 ms each, and refuses all other requests after 10 ms.

    Attributes:
        overloaded: the requests per second that it answers while more than 40 are offered.
        lag: the delay with which the load generator sends every request, in seconds.
        generator_cpu: the number of cores that the load generator uses.
        machine_cpu: the busy share of the processor of the load generator's machine.
        cache: the server's counters of cache hits and misses, a pair for each reading of a run.
        plans: every plan that was run, in order.
    """

    overloaded: int = 40
    lag: float = 0.0
    generator_cpu: float = 0.5
    machine_cpu: float = 0.4
    cache: Sequence[tuple[float, float]] = ()
    plans: list[Plan] = field(default_factory=list)

    def run(self, plan: Plan, target: Target, trouble: Callable[[], None] | None = None, **_: object) -> Run:
        assert trouble is None
        self.plans.append(plan)
        samples = list(self._callers(plan) if not plan.open_loop else self._arrivals(plan))
        models = {"text_embedding": ModelStatistics(requests=len(samples))}
        readings = [Reading(1000, *[0.0] * 4, hits, misses) for hits, misses in self.cache]
        unknown, machine = float("nan"), [self.machine_cpu] * 5
        return Run(plan, samples, models, readings, self.generator_cpu, unknown, unknown, machine_cpu=machine)

    def _callers(self, plan: Plan) -> Iterator[Sample]:
        for number in range(round(40 * plan.seconds)):
            yield Sample("text", 1000 + number / 40, self.lag, plan.users / 40, "answered")

    def _arrivals(self, plan: Plan) -> Iterator[Sample]:
        for second in range(round(plan.seconds)):
            offered = users_at(plan.shape, plan.users, second / plan.seconds)
            answered = min(offered, 40 if offered <= 40 else self.overloaded)
            for number in range(offered):
                due = 1000 + second + number / offered
                good = number * answered // offered != (number + 1) * answered // offered  # evenly spread
                yield Sample("text", due, self.lag, 0.05 if good else 0.01, "answered" if good else "refused")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Report]]:
    """Return a function that runs a load test with the given options on a scripted service."""

    def judge(service: Service, **options: Any) -> Report:
        monkeypatch.setattr(module, "run", service.run)
        return load_test(Connection(server.url), LoadTestOptions(**options))

    with GrpcServer() as server:  # it returns the model card
        yield judge


def test_a_ramp_finds_the_capacity_and_the_highest_rate_that_meets_all_objectives(
    judged: Callable[..., Report],
) -> None:
    service = Service()
    report = judged(service, seconds=80.0, repetitions=2, objectives=parse_slo("p99<200ms,errors<1%"))
    asked = [(plan.open_loop, plan.users, plan.shape, plan.seconds) for plan in service.plans]
    assert asked == [(False, 32, "steady", 10.0), (True, 61, "ramp", 80.0), (True, 61, "ramp", 80.0)]
    for curve in report.curves:
        assert curve.capacity == pytest.approx(40, rel=0.02)
        assert curve.promised == pytest.approx(39, rel=0.02)  # the fifth of eight steps
    assert report.missed == []
    assert report.doubts == []
    assert report.answer.sentence.startswith("holds 39 texts/s at p99 < 200 ms, errors < 1 %; ")
    assert "at 46 texts/s, p99 is unanswered: misses p99 < 200 ms, errors < 1 %" in report.answer.reasons


def test_a_quick_test_takes_less_than_a_minute(judged: Callable[..., Report]) -> None:
    service = Service()
    report = judged(service, quick=True)
    assert [plan.seconds for plan in service.plans] == [10.0, 24.0]
    assert report.answer.sentence.startswith("holds 39 texts/s at p99 50 ms; ")


def test_a_first_answer_is_printed_before_the_ramps(monkeypatch: pytest.MonkeyPatch) -> None:
    service, said = Service(), []
    monkeypatch.setattr(module, "run", service.run)
    with GrpcServer() as server:
        load_test(Connection(server.url), LoadTestOptions(repetitions=1), said.append)
    [place] = [place for place, line in enumerate(said) if line.startswith("first look: answers 40 texts/s to 32")]
    assert said[place + 1].startswith("repetition 1 of 1")


def test_every_repetition_sends_new_queries(judged: Callable[..., Report]) -> None:
    service = Service()
    judged(service, rate=30.0, seconds=20.0)
    assert [(plan.users, plan.payloads.seed) for plan in service.plans] == [(30, 0), (30, 1), (30, 2)]


@pytest.mark.parametrize(
    ("rate", "missed"),
    [
        (30.0, []),
        (50.0, ["p99<200ms", "errors<1%"]),  # a refused request is infinitely late
        (100.0, ["p99<200ms", "errors<1%", "goodput>35/s"]),
    ],
)
def test_objectives_are_missed_above_the_capacity(
    judged: Callable[..., Report], rate: float, missed: list[str], tmp_path: Path
) -> None:
    service = Service(overloaded=40 if rate < 100 else 20)
    slo = "p99<200ms,errors<1%" + (",goodput>35/s" if rate == 100 else "")
    report = judged(service, rate=rate, seconds=20.0, repetitions=1, objectives=parse_slo(slo))
    assert report.missed == missed
    write_report(report, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written["runs"][0]["missed"] == missed
    assert written["runs"][0]["models"]["text_embedding"]["requests"] == 20 * rate
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('class="missed"') == len(missed)
    assert page.count("<svg") == 2  # for a page and for a phone
    assert page.index("<h1>") < page.index(escape(report.answer.sentence[1:])) < page.index("<table")


def test_a_number_of_users_is_a_closed_loop(judged: Callable[..., Report]) -> None:
    service = Service()
    report = judged(service, users=8, seconds=20.0, repetitions=1, objectives=parse_slo("p50<0.3s,throughput>39/s"))
    assert [(plan.open_loop, plan.users) for plan in service.plans] == [(False, 8)]
    assert report.missed == []


def test_a_service_that_refuses_excess_requests_passes_an_overload(judged: Callable[..., Report]) -> None:
    service = Service()
    report = judged(service, scenario="overload", seconds=60.0, objectives=parse_slo("p99<200ms"))
    assert [(plan.users, plan.shape) for plan in service.plans] == [(32, "steady"), (61, "ramp"), (80, "spike")]
    assert [finding.text for finding in report.findings] == [
        "good answers at twice the capacity: 100% of the capacity (required: at least 90%)",
        "normal again 0 s after the overload (allowed: at most 10 s)",
        "p99<200ms afterwards",
    ]
    assert report.missed == []


def test_a_service_that_answers_less_under_overload_fails(judged: Callable[..., Report]) -> None:
    report = judged(Service(overloaded=20), scenario="overload", seconds=60.0, capacity=40.0)
    assert report.missed == ["good answers at twice the capacity: 50% of the capacity (required: at least 90%)"]


def test_a_load_generator_that_is_late_or_busy_casts_doubt(judged: Callable[..., Report]) -> None:
    options: dict[str, Any] = {"rate": 30.0, "seconds": 20.0, "repetitions": 1}
    [late] = judged(Service(lag=0.02), **options).doubts
    assert late.startswith("the load generator sent 1 % of the requests 20 ms late or more, although its machine was")
    [busy] = judged(Service(generator_cpu=0.95), **options).doubts
    assert busy.startswith("the load generator used 0.95 cores, and one process cannot use more than one; run Locust")
    assert judged(Service(machine_cpu=0.99), **options).doubts == []  # every request was sent in time


def test_a_late_load_generator_that_shares_the_processor_is_advised_to_move(judged: Callable[..., Report]) -> None:
    """If server and load generator share a busy processor, the advice is another machine.

    The server of the test listens on loopback, so it counts as sharing the processor.
    """
    report = judged(Service(lag=0.02, machine_cpu=0.97), rate=30.0, seconds=20.0, repetitions=1)
    [late] = report.doubts
    assert "20 ms late or more: it waited for the processor that it shares with the server, which was 97 % busy" in late
    assert late.endswith("run the load generator on another machine than the server")
    assert "the server shares the processor with the load generator" in report.answer.sentence
    [busy] = judged(Service(lag=0.02, machine_cpu=0.97, generator_cpu=0.95), rate=30.0, repetitions=1).doubts
    assert busy.endswith("run Locust with several workers, on another machine than the server")


def test_a_ramp_of_callers_has_a_curve_over_their_number(judged: Callable[..., Report], tmp_path: Path) -> None:
    objectives = parse_slo("p50<0.3s")  # the service takes 1/40 of a second for each caller
    report = judged(Service(), users=16, shape="ramp", seconds=40.0, repetitions=1, objectives=objectives)
    [curve] = report.curves
    assert curve.callers == curve.loads == [2, 4, 6, 8, 10, 12, 14, 16]
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The number of callers was raised in 8 steps." in page
    assert "<th>callers</th>" in page


@pytest.mark.parametrize(
    ("cache", "row"),
    [
        ([(10, 100), (20, 105), (40, 110)], "<td>texts found in the cache</td><td>75%</td>"),
        ([(10, 100), (40, 110), (20, 50), (30, 50)], "<td>texts found in the cache</td><td>50%</td>"),  # was restarted
        ([(math.nan, math.nan)] * 2, ""),  # the server has no cache
        ([(10, 100)] * 3, ""),  # the test sent no texts
        ([], ""),
    ],
)
def test_the_report_shows_the_share_of_texts_that_the_cache_answered(
    judged: Callable[..., Report], tmp_path: Path, cache: Sequence[tuple[float, float]], row: str
) -> None:
    report = judged(Service(cache=cache), rate=30.0, seconds=20.0, repetitions=1)
    write_report(report, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert row in page
    assert ("found in the cache" in page) == bool(row)

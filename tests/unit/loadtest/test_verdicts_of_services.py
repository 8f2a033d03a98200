"""Verdicts on scripted services with known latencies. A request without an answer counts as infinitely late."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from tests.support.paths import ROOT
from tuwen import InvalidArgumentError
from tuwen_loadtest._curve import curve_of
from tuwen_loadtest._phases import phases_of
from tuwen_loadtest._report import _as_json
from tuwen_loadtest._samples import Outcome, Sample
from tuwen_loadtest._slo import good_seconds, parse_slo
from tuwen_loadtest._verdict import Verdict, judge
from tuwen_loadtest.scenarios import SCENARIOS
from tuwen_server.traffic import latency_quantile

RATE, SECONDS, WARMUP, BEGIN = 100, 60, 5.0, 1000.0
MEASURED = RATE * (SECONDS - int(WARMUP))  # requests after the warm-up
OBJECTIVES = ("p50<100ms", "p95<200ms", "p99<200ms", "p99.9<200ms", "max<200ms", "errors<0.1%", "goodput>98/s")

Answer = tuple[float, Outcome]


class Request(NamedTuple):
    """A request to a scripted service.

    Attributes:
        number: the number of the request, from 0.
        second: the scheduled start, in seconds after the beginning of the run.
    """

    number: int
    second: float


Service = Callable[[Request], Answer]


def steady(_: Request) -> Answer:
    return 0.05, "answered"


def slow_half(request: Request) -> Answer:
    return (0.05 if request.number % 2 else 2.0), "answered"


def one_in_twenty_slow(request: Request) -> Answer:
    return (2.0 if request.number % 20 == 0 else 0.05), "answered"


def slower_all_the_time(request: Request) -> Answer:
    return 0.02 + 0.38 * request.second / SECONDS, "answered"


def silent_half(request: Request) -> Answer:
    return (0.05, "answered") if request.number % 2 else (30.0, "timed out")


def silent_from_the_middle(request: Request) -> Answer:
    return (0.01, "answered") if request.second < SECONDS / 2 else (30.0, "timed out")


def unfinished_at_the_end(request: Request) -> Answer:
    return (0.01, "answered") if request.second < SECONDS - 1 else (36.0, "unfinished")


def refusing_above_50_a_second(request: Request) -> Answer:
    return (0.05, "answered") if request.number % RATE < 50 else (0.001, "refused")


def one_in_a_hundred_lost(request: Request) -> Answer:
    return (0.2, "failed") if request.number % 100 == 0 else (0.05, "answered")


def one_in_two_thousand_refused(request: Request) -> Answer:
    return (0.001, "refused") if request.number % 2000 == 1999 else (0.05, "answered")


def all_refused(_: Request) -> Answer:
    return 0.001, "refused"


def slow_while_it_warms_up(request: Request) -> Answer:
    return (5.0 if request.second < WARMUP else 0.05), "answered"


def asked(service: Service, *, rate: int = RATE, seconds: int = SECONDS) -> list[Sample]:
    moments = ((number, number / rate) for number in range(rate * seconds))
    return [Sample("text", BEGIN + second, 0.0, *service(Request(number, second))) for number, second in moments]


EXPECTED: Sequence[tuple[Service, Sequence[str], int]] = (
    (steady, [], 0),
    (slow_while_it_warms_up, [], 0),
    (slow_half, ["p95", "p99", "p99.9", "max", "goodput"], 0),
    (one_in_twenty_slow, ["p99", "p99.9", "max", "goodput"], 0),
    (slower_all_the_time, ["p50", "p95", "p99", "p99.9", "max", "goodput"], 0),
    (silent_half, ["p95", "p99", "p99.9", "max", "errors", "goodput"], MEASURED // 2),
    (silent_from_the_middle, ["p50", "p95", "p99", "p99.9", "max", "errors", "goodput"], RATE * 30),
    (unfinished_at_the_end, ["p99", "p99.9", "max", "errors"], RATE),
    (refusing_above_50_a_second, ["p95", "p99", "p99.9", "max", "errors", "goodput"], MEASURED // 2),
    (one_in_a_hundred_lost, ["p99.9", "max", "errors"], MEASURED // 100),
    (one_in_two_thousand_refused, ["max"], 3),
    (all_refused, ["p50", "p95", "p99", "p99.9", "max", "errors", "goodput"], MEASURED),
)
"""The services, with the objectives that each must miss, and the requests that each leaves without an answer."""


def verdict_of(service: Service) -> Verdict:
    return judge(asked(service), parse_slo(",".join(OBJECTIVES)), warmup=WARMUP)


@pytest.mark.parametrize(("service", "missed", "lost"), EXPECTED)
def test_the_verdict_on_each_service_is_as_expected(service: Service, missed: Sequence[str], lost: int) -> None:
    verdict = verdict_of(service)
    assert [one.metric for one in verdict.missed] == list(missed)
    assert verdict.summary.requests == MEASURED
    assert verdict.summary.lost == lost
    assert verdict.summary.errors == lost / MEASURED


def test_the_guide_shows_the_verdicts() -> None:
    """The table in the guide shows the measured verdicts.

    The test prints the table. Copy it into the guide after a change of a service or an objective.
    """
    rows = ["| service | expected to miss | missed | without an answer |", "|---|---|---|---|"]
    for service, missed, _ in EXPECTED:
        verdict = verdict_of(service)
        found = [one.metric for one in verdict.missed]
        cells = [", ".join(names) or "none" for names in (missed, found)]
        lost = f"{verdict.summary.lost:,} of {verdict.summary.requests:,}"
        rows.append(f"| {service.__name__.replace('_', ' ')} | {' | '.join(cells)} | {lost} |")
    table = "\n".join(rows)
    print(table)
    assert table in (ROOT / "docs" / "guides" / "load-test.md").read_text(encoding="utf-8")


def test_missing_answers_make_high_percentiles_infinite() -> None:
    verdict = judge(asked(silent_half), (), warmup=WARMUP)
    assert verdict.summary.latencies["p50"] == 0.05
    assert verdict.summary.latencies["p99"] == math.inf
    assert "p50 50 ms, p90 unanswered" in verdict.text


def test_a_run_without_requests_misses_every_objective() -> None:
    objectives = parse_slo("p99<200ms,errors<1%,refused<1%,timeouts<1%,failures<1%,goodput>1/s")
    assert len(judge([], objectives, warmup=0.0).missed) == len(objectives)


class TestQuantile:
    @pytest.mark.parametrize(
        ("share", "unanswered", "expected"),
        [(0.5, 0, 5.0), (0.99, 0, 10.0), (1.0, 0, 10.0), (0.5, 10, 10.0), (0.51, 10, math.inf), (0.9, 1, 10.0)],
    )
    def test_a_quantile_is_the_latency_of_the_nearest_rank(
        self, share: float, unanswered: int, expected: float
    ) -> None:
        latencies = [float(value) for value in range(10, 0, -1)]
        assert latency_quantile(latencies, share, unanswered=unanswered) == expected

    def test_a_quantile_is_finite_if_exactly_its_share_was_answered(self) -> None:
        for count in range(100, 100_000, 100):
            assert latency_quantile([1.0] * (count * 99 // 100), 0.99, unanswered=count // 100) == 1.0

    def test_a_quantile_of_no_requests_is_nan(self) -> None:
        assert math.isnan(latency_quantile([], 0.5))
        assert latency_quantile([], 0.5, unanswered=1) == math.inf


class TestRamp:
    def ramp(self, service: Callable[[int, int], Answer]) -> list[Sample]:
        """Return the samples of a ramp to 80 requests per second, in eight steps of eight seconds.

        Args:
            service: a function that returns the answer to a request. Its arguments are the number of the request within
                its second, and the rate.
        """
        return [
            Sample("text", BEGIN + 8 * step + number / rate, 0.0, *service(number % rate, rate))
            for step in range(8)
            for rate in [10 * (step + 1)]
            for number in range(8 * rate)
        ]

    def test_a_rate_with_refusals_misses_a_bound_on_latency(self) -> None:
        def service(place: int, _: int) -> Answer:
            return (0.02, "answered") if place < 50 else (0.001, "refused")

        curve = curve_of(self.ramp(service), 64, parse_slo("p99<200ms"))
        assert curve.steps[-1].refused == pytest.approx(0.375)
        assert curve.promised == pytest.approx(50, rel=0.02)
        assert curve.capacity == pytest.approx(50, rel=0.02)

    def test_no_rate_is_promised_for_a_service_that_refuses_all_requests(self) -> None:
        assert curve_of(self.ramp(lambda *_: (0.001, "refused")), 64, parse_slo("p99<200ms")).promised == 0


class TestGoodAnswers:
    @pytest.mark.parametrize(
        ("slo", "expected"),
        [
            ("p50<100ms,p99<1s", 1.0),
            ("p50<100ms", math.inf),
            ("p90<100ms", math.inf),
            ("p95<300ms,p99<1s", 0.3),
            ("max<=2s,errors<1%", 2.0),
            ("p99>1ms,p99<1s", 1.0),
        ],
    )
    def test_only_a_bound_on_p95_or_higher_defines_good_answers(self, slo: str, expected: float) -> None:
        assert good_seconds(parse_slo(slo)) == expected

    def test_a_service_that_meets_its_objectives_also_passes_a_scenario(self) -> None:
        """A service meets `p50<100ms,p99<1s` if 60 % of its answers take 90 ms and 40 % take 500 ms."""
        objectives = parse_slo("p50<100ms,p99<1s")
        samples = asked(lambda request: (0.09 if request.number % 5 < 3 else 0.5, "answered"))
        assert judge(samples, objectives, warmup=WARMUP).missed == []
        trouble = (BEGIN + 20, BEGIN + 40)
        phases = phases_of(samples, trouble, warmup=WARMUP, good_seconds=good_seconds(objectives))
        assert all(finding.met for finding in SCENARIOS["overload"].findings(phases, float(RATE)))


class TestScenarios:
    def findings(self, name: str, service: Service) -> list[bool]:
        trouble = (BEGIN + 20, BEGIN + 40)
        phases = phases_of(asked(service), trouble, warmup=WARMUP, good_seconds=math.inf)
        return [finding.met for finding in SCENARIOS[name].findings(phases, 0.9 * RATE)]

    def lossy_meanwhile(self, request: Request) -> Answer:
        lost = 20 <= request.second < 40 and request.number % 50 == 0
        return (0.001, "refused") if lost else (0.05, "answered")

    def test_lost_requests_fail_a_scenario(self) -> None:
        assert self.findings("restart", steady) == [True]
        assert self.findings("restart", self.lossy_meanwhile) == [False]
        assert self.findings("bad-clients", steady) == [True, True]
        assert self.findings("bad-clients", self.lossy_meanwhile) == [False, False]

    def test_a_service_that_stays_silent_does_not_recover(self) -> None:

        def silent(request: Request) -> Answer:
            return (0.05, "answered") if request.second < 20 else (9.0, "timed out")

        assert self.findings("overload", silent) == [False, False]

    def test_lost_requests_before_the_trouble_do_not_make_slow_answers_good(self) -> None:
        """Slow answers are not good, even if some requests were lost before the trouble.

        The service refuses two requests in a hundred all the time, so the p99 of all requests is infinite.
        """

        def service(request: Request) -> Answer:
            if request.number % 50 == 0:
                return 0.001, "refused"
            return (0.05 if request.second < 20 else 3.0), "answered"

        assert self.findings("overload", service) == [True, False]

    def test_a_scenario_without_requests_during_its_trouble_fails(self) -> None:
        samples = [one for one in asked(steady) if not BEGIN + 20 <= one.due < BEGIN + 40]
        phases = phases_of(samples, (BEGIN + 20, BEGIN + 40), warmup=WARMUP, good_seconds=math.inf)
        assert not SCENARIOS["restart"].findings(phases, 1.0)[0].met
        assert not any(finding.met for finding in SCENARIOS["bad-clients"].findings(phases, 1.0))


class TestObjectives:
    def test_p95_and_a_share_without_a_percent_sign_are_parsed(self) -> None:
        p95, share, percent = parse_slo("p95<200ms,errors<0.1,errors<0.1%")
        assert (p95.metric, p95.bound) == ("p95", pytest.approx(0.2))
        assert share.bound == pytest.approx(0.1)
        assert percent.bound == pytest.approx(0.001)

    @pytest.mark.parametrize("text", ["errors<5", "refused<150%", "timeouts<=1.5"])
    def test_rejects_a_share_above_all_requests(self, text: str) -> None:
        with pytest.raises(InvalidArgumentError, match="expected a share from 0 to 1"):
            parse_slo(text)


def test_report_json_has_infinity_as_text_and_nan_as_null() -> None:
    written = json.dumps(_as_json({"p99": math.inf, "gpu": math.nan, "p50": 0.1}), allow_nan=False)
    assert json.loads(written) == {"p99": "Infinity", "gpu": None, "p50": 0.1}


_USERS = """
import sys
from types import SimpleNamespace
from tuwen_loadtest import listeners, users
from locust.dispatch import UsersDispatcher
from locust.runners import WorkerNode
named = sys.argv[1].split(",")
environment = SimpleNamespace(
    parsed_options=SimpleNamespace(user_classes=named), user_classes=[getattr(users, name) for name in named]
)
listeners._choose_users(environment)
dispatcher = UsersDispatcher([WorkerNode("1")], environment.user_classes)
dispatcher.new_dispatch(target_user_count=8, spawn_rate=8)
[*_, last] = dispatcher
print(sorted(last["1"].items()))
"""


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("BulkIndexing", [("BulkEmbedding", 8)]),
        ("TextSearch", [("TextSearch", 8)]),
        ("TextSearch,BulkIndexing", [("BulkIndexing", 1), ("TextSearch", 7)]),
    ],
)
def test_bulk_indexing_gets_all_users_if_no_other_class_is_named(named: str, expected: list[tuple[str, int]]) -> None:
    """Bulk indexing alone gets all requested users; beside another class of users, it gets one user.

    Locust runs in its own process, because it patches the standard library.
    """
    command = [sys.executable, "-c", _USERS, named]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == str(expected)

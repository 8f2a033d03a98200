"""The evaluation of the samples of a load test: summaries, verdicts, curves, and the findings of the scenarios."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from tuwen import InvalidArgumentError
from tuwen_loadtest._curve import curve_of
from tuwen_loadtest._phases import Phases, phases_of
from tuwen_loadtest._samples import Outcome, Sample, read_samples, write_samples
from tuwen_loadtest._slo import parse_slo
from tuwen_loadtest._summary import summarise
from tuwen_loadtest._verdict import judge
from tuwen_loadtest.scenarios import SCENARIOS


class TestSlo:
    def test_objectives_are_parsed(self) -> None:
        latency, errors, goodput = parse_slo("p99<200ms, errors <= 0.1%,goodput>50/s")
        assert (latency.metric, latency.bound) == ("p99", pytest.approx(0.2))
        assert (errors.metric, errors.bound) == ("errors", pytest.approx(0.001))
        assert (goodput.metric, goodput.bound) == ("goodput", 50)
        assert latency.is_met(0.19)
        assert not latency.is_met(0.2)
        assert errors.is_met(0.001)
        assert not goodput.is_met(50)

    def test_an_objective_that_was_not_measured_is_missed(self) -> None:
        assert not parse_slo("p99<1s")[0].is_met(math.nan)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("fast", "expected an objective such as p99<200ms"),
            ("p99<200ms,", "expected an objective such as p99<200ms"),
            ("p98<200ms", "expected a metric, got 'p98'; use one of p50, p90"),
            ("p99<200", "p99: expected the unit ms or s, got none"),
            ("errors<1ms", "errors: expected the unit % or no unit, got ms"),
            ("p99<1.2.3s", "expected a number, got 1.2.3"),
        ],
    )
    def test_rejects_a_text_that_is_not_an_objective(self, text: str, message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            parse_slo(text)


class TestSummary:
    SAMPLES = (
        *(Sample("text", 100 + second, 0.001, 0.1, "answered") for second in range(90)),
        *(Sample("text", 100 + second, 0.5, 0.3, "answered") for second in range(4)),
        *itertools.starmap(
            Sample,
            [("text", 110.0, 0.0, 0.01, "refused")] * 3
            + [("text", 111.0, 0.0, 9.0, "timed out")] * 2
            + [("text", 112.0, 0.0, 0.2, "failed")],
        ),
        Sample("text", 250.0, 0.0, 1.0, "answered"),  # after the time
        Sample("text", 251.0, 0.0, 36.0, "unfinished"),
    )

    def test_a_summary_has_rates_shares_and_latencies(self) -> None:
        found = summarise(self.SAMPLES, 100, 200, good_seconds=0.2)
        assert found.requests == 100
        assert (found.offered, found.throughput, found.goodput) == (1.0, 0.94, 0.9)
        assert (found.refused, found.timeouts, found.failures) == (0.03, 0.02, 0.01)
        assert found.errors == pytest.approx(0.06)
        assert found.latencies["p50"] == pytest.approx(0.1)
        assert found.latencies["p90"] == pytest.approx(0.1)
        assert found.latencies["max"] == math.inf == found.metric("max")  # six requests got no answer
        assert found.metric("errors") == found.errors
        assert found.lag > 0.4

    def test_a_summary_of_no_samples_has_no_latencies(self) -> None:
        found = summarise([], 0, 1)
        assert found.requests == 0
        assert math.isnan(found.errors)
        assert math.isnan(found.latencies["p99"])

    def test_samples_are_written_and_read(self, tmp_path: Path) -> None:
        write_samples(reversed(self.SAMPLES), tmp_path / "new" / "samples.npz")
        found = read_samples(tmp_path / "new" / "samples.npz")
        assert sorted(found) == sorted(self.SAMPLES)
        assert [sample.due for sample in found] == sorted(sample.due for sample in self.SAMPLES)
        write_samples([], tmp_path / "none.npz")
        assert list(read_samples(tmp_path / "none.npz")) == []

    def test_the_samples_have_every_outcome(self) -> None:
        outcomes: tuple[Outcome, ...] = ("answered", "refused", "timed out", "failed", "unfinished")
        assert {sample.outcome for sample in self.SAMPLES} == set(outcomes)


class TestVerdict:
    SAMPLES = (
        *(Sample("text", 100 + tenth / 10, 0.0, 2.0, "answered") for tenth in range(50)),  # the warm-up
        *(Sample("text", 105 + tenth / 10, 0.0, 0.1, "answered") for tenth in range(95)),
        *(Sample("image", 105 + tenth / 10, 0.0, 0.0, "refused") for tenth in range(5)),
    )

    def test_the_warm_up_does_not_count(self) -> None:
        verdict = judge(self.SAMPLES, parse_slo("p95<0.2s,errors<=5%,goodput>9/s"), warmup=5.0)
        assert verdict.missed == []
        assert "95 requests" in verdict.text
        assert all(met for _, met in verdict.objectives)

    def test_missed_objectives_are_named(self) -> None:
        verdict = judge(self.SAMPLES, parse_slo("p99<50ms,errors<5%"), warmup=5.0)
        assert [one.text for one in verdict.missed] == ["p99<50ms", "errors<5%"]
        assert verdict.summary.goodput == 0

    def test_a_run_that_ends_in_its_warm_up_meets_no_latency(self) -> None:
        assert judge(self.SAMPLES, parse_slo("p99<9s"), warmup=60.0).missed
        assert judge([], parse_slo("p99<9s"), warmup=0.0).missed


class TestCurve:
    def samples(self, capacity: int) -> list[Sample]:
        """Return the samples of a ramp to 80 requests per second in 80 s. The service answers `capacity` a second."""
        found = []
        for step in range(8):
            rate = 10 * (step + 1)
            for number in range(10 * rate):
                due = 100 + 10 * step + number / rate
                good = number % rate < capacity
                seconds = 0.1 if rate <= capacity else 0.5
                found.append(Sample("text", due, 0.0, seconds if good else 0.01, "answered" if good else "refused"))
        return found

    def test_the_capacity_of_a_service_is_found(self) -> None:
        curve = curve_of(self.samples(50), 80.0, parse_slo("p99<200ms,errors<1%"))
        assert len(curve.steps) == 8
        assert curve.steps[2].offered == pytest.approx(30, rel=0.02)
        assert curve.capacity == pytest.approx(50, rel=0.05)
        assert curve.promised == pytest.approx(50, rel=0.02)

    def test_no_rate_is_promised_above_a_rate_that_missed_an_objective(self) -> None:
        assert curve_of(self.samples(50), 80.0, parse_slo("p99<50ms")).promised == 0
        assert math.isnan(curve_of(self.samples(50), 80.0, ()).promised)


class TestPhases:
    def samples(self, *, refused: int, slow_until: float) -> list[Sample]:
        """Return the samples of ten requests per second from time 100 s to 160 s.

        The trouble lasts from time 120 s to 140 s.

        Args:
            refused: the number of refused requests of every ten during the trouble.
            slow_until: the time in seconds at which slow answers end. They begin at 120 s.
        """
        found = []
        for number in range(600):
            due = 100 + number / 10
            if 120 <= due < 140 and number % 10 < refused:
                found.append(Sample("text", due, 0.0, 0.3, "refused"))
            else:
                found.append(Sample("text", due, 0.0, 2.0 if 120 <= due < slow_until else 0.1, "answered"))
        return found

    def test_each_phase_has_a_summary(self) -> None:
        found = phases_of(self.samples(refused=5, slow_until=120), (120, 140), warmup=5, good_seconds=1.0)
        assert (found.before.requests, found.trouble.requests) == (150, 200)
        assert found.trouble.refused == 0.5
        assert found.trouble.refusal == pytest.approx(0.3)
        assert found.trouble.goodput == pytest.approx(5, rel=0.05)
        assert found.after.errors == 0
        assert math.isnan(found.after.refusal)
        assert found.recovery == 0

    def test_recovery_ends_with_three_seconds_of_good_answers(self) -> None:
        late = self.samples(refused=0, slow_until=147)
        assert phases_of(late, (120, 140), warmup=5, good_seconds=1.0).recovery == 7
        # Without an objective, an answer is good if it takes at most twice the p99 before the trouble.
        assert phases_of(late, (120, 140), warmup=5, good_seconds=math.inf).recovery == 7
        never = self.samples(refused=0, slow_until=200)
        assert phases_of(never, (120, 140), warmup=5, good_seconds=1.0).recovery == math.inf

    def test_an_overloaded_service_has_to_answer_nine_tenths_of_its_capacity(self) -> None:
        def findings(refused: int) -> list[bool]:
            samples = self.samples(refused=refused, slow_until=100)
            phases = phases_of(samples, (120, 140), warmup=5, good_seconds=1.0)
            return [finding.met for finding in SCENARIOS["overload"].findings(phases, 5.0)]

        assert findings(5) == [True, True]
        assert findings(6) == [False, True]

    def test_a_service_has_ten_seconds_to_recover_from_an_overload(self) -> None:
        def recovered(seconds: int) -> bool:
            samples = self.samples(refused=0, slow_until=140 + seconds)
            phases = phases_of(samples, (120, 140), warmup=5, good_seconds=1.0)
            return SCENARIOS["overload"].findings(phases, 0.1)[1].met

        assert (recovered(10), recovered(11)) == (True, False)

    def test_no_request_may_be_lost_during_restarts(self) -> None:
        def finding(refused: int) -> tuple[str, bool]:
            samples = self.samples(refused=refused, slow_until=100)
            [found] = SCENARIOS["restart"].findings(self.phases(samples), 10.0)
            return found.text, found.met

        assert finding(0) == ("requests lost during the restarts: 0 of 200 (allowed: none)", True)
        assert finding(1) == ("requests lost during the restarts: 20 of 200 (allowed: none)", False)

    def test_other_clients_may_lose_no_request_and_at_most_double_their_p99(self) -> None:
        def findings(refused: int, seconds: float) -> list[bool]:
            samples = [
                sample._replace(seconds=seconds) if 120 <= sample.due < 140 else sample
                for sample in self.samples(refused=refused, slow_until=100)
            ]
            return [finding.met for finding in SCENARIOS["bad-clients"].findings(self.phases(samples), 10.0)]

        assert findings(refused=0, seconds=0.19) == [True, True]
        assert findings(refused=0, seconds=0.21) == [True, False]
        assert findings(refused=1, seconds=0.19) == [
            False,
            False,
        ]  # a tenth of the requests has no answer, so p99 is infinite

    def phases(self, samples: list[Sample]) -> Phases:
        return phases_of(samples, (120, 140), warmup=5, good_seconds=1.0)

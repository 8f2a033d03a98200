"""What a load test sends, and what it makes of the answers. Locust itself runs in the end-to-end tests."""

from __future__ import annotations

import collections
import io
import itertools
import math
from pathlib import Path

import pytest
from PIL import Image

from tuwen import InvalidArgumentError, Tls
from tuwen_build.samples import sample
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._curve import curve_of
from tuwen_loadtest._payloads import PayloadOptions, Payloads
from tuwen_loadtest._samples import Outcome, Sample, read_samples, write_samples
from tuwen_loadtest._slo import parse_slo
from tuwen_loadtest._summary import summarise
from tuwen_loadtest._users_over_time import users_at
from tuwen_loadtest._verdict import judge
from tuwen_loadtest.load_test import LoadTestOptions


@pytest.fixture(scope="module")
def payloads() -> Payloads:
    return Payloads(PayloadOptions())


class TestPayloads:
    def test_photographs_have_the_sizes_of_life(self, payloads: Payloads) -> None:
        sizes = collections.Counter(Image.open(io.BytesIO(payloads.image())).size for _ in range(32))
        assert len(sizes) == 6
        assert sizes[640, 480] == 8
        assert sizes[4032, 3024] == 1

    def test_few_queries_are_asked_often(self, payloads: Payloads) -> None:
        asked = collections.Counter(payloads.query() for _ in range(20_000))
        often = sum(count for _, count in asked.most_common(100))
        assert 0.4 < often / 20_000 < 0.65  # Zipf with s = 1 over 10,000: H(100) / H(10,000) = 0.53
        assert len(asked) > 3_000

    def test_without_skew_all_are_alike(self) -> None:
        payloads = Payloads(PayloadOptions(images=sample("cat.jpg").parent, skew=0))
        asked = collections.Counter(payloads.query() for _ in range(20_000))
        assert asked.most_common(1)[0][1] < 15

    def test_a_seed_sends_the_same(self) -> None:
        def sent(seed: int) -> list[str]:
            payloads = Payloads(PayloadOptions(images=sample("cat.jpg").parent, seed=seed))
            return [payloads.query() for _ in range(50)]

        assert sent(0) == sent(0) != sent(1)

    def test_what_users_bring(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        picture = sample("cat.jpg").read_bytes()
        (tmp_path / "deep" / "a.JPG").write_bytes(picture)
        (tmp_path / "queries.txt").write_text("猫\n\n狗\n", encoding="utf-8")
        payloads = Payloads(PayloadOptions(images=tmp_path, queries=tmp_path / "queries.txt"))
        assert payloads.image() == picture == payloads.image()
        assert {payloads.query() for _ in range(100)} == {"猫", "狗"}

    def test_what_cannot_be_sent_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
        (tmp_path / "latin.txt").write_bytes(b"\xe9")
        for options, message in (
            (PayloadOptions(images=tmp_path), "holds no pictures"),
            (PayloadOptions(images=sample("cat.jpg").parent, queries=tmp_path / "empty.txt"), "holds no query"),
            (PayloadOptions(images=sample("cat.jpg").parent, queries=tmp_path / "latin.txt"), "is no file of queries"),
            (PayloadOptions(images=sample("cat.jpg").parent, queries=tmp_path / "none.txt"), "is no file of queries"),
        ):
            with pytest.raises(InvalidArgumentError, match=message):
                Payloads(options)
        with pytest.raises(InvalidArgumentError, match="must not be negative"):
            PayloadOptions(skew=-1)


class TestSlo:
    def test_objectives_are_read(self) -> None:
        latency, errors, goodput = parse_slo("p99<200ms, errors <= 0.1%,goodput>50/s")
        assert (latency.metric, latency.bound) == ("p99", pytest.approx(0.2))
        assert (errors.metric, errors.bound) == ("errors", pytest.approx(0.001))
        assert (goodput.metric, goodput.bound) == ("goodput", 50)
        assert latency.is_met(0.19)
        assert not latency.is_met(0.2)
        assert errors.is_met(0.001)
        assert not goodput.is_met(50)

    def test_what_was_not_measured_is_not_met(self) -> None:
        assert not parse_slo("p99<1s")[0].is_met(math.nan)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("fast", "write it like p99<200ms"),
            ("p99<200ms,", "write it like p99<200ms"),
            ("p98<200ms", "nothing is called 'p98'; known are p50, p90"),
            ("p99<200", "p99 is stated in ms or s, not in no unit"),
            ("errors<1ms", "errors is stated in % or no unit, not in ms"),
            ("p99<1.2.3s", "1.2.3 is no number"),
        ],
    )
    def test_what_is_none_is_said(self, text: str, message: str) -> None:
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
    )

    def test_what_samples_come_to(self) -> None:
        found = summarise(self.SAMPLES, 100, 200, good_seconds=0.2)
        assert found.requests == 100
        assert (found.offered, found.throughput, found.goodput) == (1.0, 0.94, 0.9)
        assert (found.refused, found.timeouts, found.failures) == (0.03, 0.02, 0.01)
        assert found.errors == pytest.approx(0.06)
        assert found.latencies["p50"] == pytest.approx(0.1)
        assert found.latencies["max"] == pytest.approx(0.3) == found.metric("max")
        assert found.metric("errors") == found.errors
        assert found.lag > 0.4

    def test_of_nothing_nothing_is_said(self) -> None:
        found = summarise([], 0, 1)
        assert (found.requests, found.errors) == (0, 0.0)
        assert math.isnan(found.latencies["p99"])

    def test_samples_are_kept_on_disk(self, tmp_path: Path) -> None:
        write_samples(reversed(self.SAMPLES), tmp_path / "new" / "samples.npz")
        found = read_samples(tmp_path / "new" / "samples.npz")
        assert sorted(found) == sorted(self.SAMPLES)
        assert [sample.due for sample in found] == sorted(sample.due for sample in self.SAMPLES)
        write_samples([], tmp_path / "none.npz")
        assert list(read_samples(tmp_path / "none.npz")) == []

    def test_all_outcomes_are_told_apart(self) -> None:
        outcomes: tuple[Outcome, ...] = ("answered", "refused", "timed out", "failed")
        assert {sample.outcome for sample in self.SAMPLES} == set(outcomes)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("steady", [80, 80, 80, 80, 80]),
        ("ramp", [10, 20, 50, 70, 80]),
        ("spike", [20, 20, 80, 20, 20]),
    ],
)
def test_users_over_time(shape: str, wanted: list[int]) -> None:
    assert [users_at(shape, 80, progress) for progress in (0.0, 0.2, 0.5, 0.8, 0.99)] == wanted


class TestVerdict:
    SAMPLES = (
        *(Sample("text", 100 + tenth / 10, 0.0, 2.0, "answered") for tenth in range(50)),  # the warm-up
        *(Sample("text", 105 + tenth / 10, 0.0, 0.1, "answered") for tenth in range(95)),
        *(Sample("image", 105 + tenth / 10, 0.0, 0.0, "refused") for tenth in range(5)),
    )

    def test_the_warm_up_does_not_count(self) -> None:
        verdict = judge(self.SAMPLES, parse_slo("p99<0.2s,errors<=5%,goodput>9/s"), warmup=5.0)
        assert verdict.missed == []
        assert "95 requests" in verdict.text
        assert "met    p99<0.2s" in verdict.text

    def test_what_was_missed_is_said(self) -> None:
        verdict = judge(self.SAMPLES, parse_slo("p99<50ms,errors<5%"), warmup=5.0)
        assert [one.text for one in verdict.missed] == ["p99<50ms", "errors<5%"]
        assert "MISSED errors<5%" in verdict.text
        assert verdict.summary.goodput == 0

    def test_nothing_but_warm_up_meets_no_latency(self) -> None:
        assert judge(self.SAMPLES, parse_slo("p99<9s"), warmup=60.0).missed
        assert judge([], parse_slo("p99<9s"), warmup=0.0).missed


class TestCurve:
    def samples(self, capacity: int) -> list[Sample]:
        """Of a ramp to 80 a second in 80 s, on a service that refuses what it cannot do."""
        found = []
        for step in range(8):
            rate = 10 * (step + 1)
            for number in range(10 * rate):
                due = 100 + 10 * step + number / rate
                good = number % rate < capacity
                seconds = 0.1 if rate <= capacity else 0.5
                found.append(Sample("text", due, 0.0, seconds if good else 0.01, "answered" if good else "refused"))
        return found

    def test_the_knee_is_where_it_was_put(self) -> None:
        curve = curve_of(self.samples(50), 80.0, parse_slo("p99<200ms,errors<1%"))
        assert len(curve.steps) == 8
        assert curve.steps[2].offered == pytest.approx(30, rel=0.02)
        assert curve.capacity == pytest.approx(50, rel=0.05)
        assert curve.promised == pytest.approx(50, rel=0.02)

    def test_a_rate_above_a_missed_one_is_not_promised(self) -> None:
        assert curve_of(self.samples(50), 80.0, parse_slo("p99<50ms")).promised == 0
        assert math.isnan(curve_of(self.samples(50), 80.0, ()).promised)


def test_options_are_checked() -> None:
    for options, message in (
        ({"rate": 1.0, "users": 1}, "not both"),
        ({"rate": 0.0}, "rate must be more than 0"),
        ({"repetitions": 0}, "repetitions must be more than 0"),
        ({"seconds": 5.0, "warmup": 5.0}, "of 5 seconds 5 cannot be warm-up"),
        ({"shape": "round"}, "must be one of steady, ramp, spike"),
        ({"kinds": ["video"]}, "nothing is called 'video'; ask text, image"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            LoadTestOptions(**options)


class TestConnection:
    def test_locust_is_told_by_its_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told = Connection("clip:8001", Tls(ca="/etc/ca.pem"), {"authorization": "Bearer secret", "x-tenant": "a:b"})
        for name, value in told.to_environment().items():
            monkeypatch.setenv(name, value)
        found = Connection.from_environment("clip:8001")
        assert (found.url, found.headers) == (told.url, told.headers)
        assert found.tls == told.tls
        assert "secret" not in repr(found)

    def test_without_anything_it_talks_plainly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Connection.from_environment("clip:8001") == Connection("clip:8001")
        monkeypatch.setenv("TUWEN_TLS", "1")
        assert Connection.from_environment("clip:8001").tls == Tls()

    def test_a_header_without_a_colon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUWEN_HEADERS", "secret")
        with pytest.raises(InvalidArgumentError, match="without a colon"):
            Connection.from_environment("clip:8001")

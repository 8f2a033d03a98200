"""What a load test sends, and what it makes of the answers. Locust itself runs in the end-to-end tests."""

from __future__ import annotations

import collections
import io
import itertools
import math
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from tests.support.command import wait_until
from tuwen import InvalidArgumentError, Tls
from tuwen_build.samples import sample
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._curve import curve_of
from tuwen_loadtest._payloads import PayloadOptions, Payloads
from tuwen_loadtest._samples import Outcome, Sample, read_samples, write_samples
from tuwen_loadtest._slo import parse_slo
from tuwen_loadtest._summary import summarise
from tuwen_loadtest._thirds import thirds_of
from tuwen_loadtest._users_over_time import users_at
from tuwen_loadtest._verdict import judge
from tuwen_loadtest._watch import Reading, watch
from tuwen_loadtest.load_test import LoadTestOptions
from tuwen_loadtest.scenarios import SCENARIOS
from tuwen_loadtest.scenarios._relay import Relay


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
        assert 0.3 < often / 20_000 < 0.45  # Zipf with s = 1 over a million: H(100) / H(1,000,000) = 0.36
        assert len(asked) > 6_000

    def test_without_skew_all_are_alike(self) -> None:
        payloads = Payloads(PayloadOptions(images=sample("cat.jpg").parent, skew=0))
        asked = collections.Counter(payloads.query() for _ in range(20_000))
        assert len(asked) > 18_000  # some queries are short

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
            (PayloadOptions(images=sample("cat.jpg").parent, queries=tmp_path / "latin.txt"), "is not UTF-8"),
            (PayloadOptions(images=sample("cat.jpg").parent, queries=tmp_path / "none.txt"), "cannot read"),
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
        assert all(met for _, met in verdict.objectives)

    def test_what_was_missed_is_said(self) -> None:
        verdict = judge(self.SAMPLES, parse_slo("p99<50ms,errors<5%"), warmup=5.0)
        assert [one.text for one in verdict.missed] == ["p99<50ms", "errors<5%"]
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


class TestThirds:
    def samples(self, *, refused: int, slow_until: float) -> list[Sample]:
        """Ten a second for 60 s; in the middle `refused` of ten are; from there until a time all answers are slow."""
        found = []
        for number in range(600):
            due = 100 + number / 10
            if 120 <= due < 140 and number % 10 < refused:
                found.append(Sample("text", due, 0.0, 0.3, "refused"))
            else:
                found.append(Sample("text", due, 0.0, 2.0 if 120 <= due < slow_until else 0.1, "answered"))
        return found

    def test_each_third_for_itself(self) -> None:
        found = thirds_of(self.samples(refused=5, slow_until=120), (120, 140), warmup=5, good_seconds=1.0)
        assert (found.before.requests, found.trouble.requests) == (150, 200)
        assert found.trouble.refused == 0.5
        assert found.trouble.refusal == pytest.approx(0.3)
        assert found.trouble.goodput == pytest.approx(5, rel=0.05)
        assert found.after.errors == 0
        assert math.isnan(found.after.refusal)
        assert found.recovery == 0

    def test_recovery_is_when_all_is_well_again(self) -> None:
        late = self.samples(refused=0, slow_until=147)
        assert thirds_of(late, (120, 140), warmup=5, good_seconds=1.0).recovery == 7
        # without an objective: when it takes no longer than twice the p99 of before
        assert thirds_of(late, (120, 140), warmup=5, good_seconds=math.inf).recovery == 7
        never = self.samples(refused=0, slow_until=200)
        assert thirds_of(never, (120, 140), warmup=5, good_seconds=1.0).recovery == math.inf

    def test_what_an_overload_has_to_bear(self) -> None:
        def findings(refused: int) -> list[bool]:
            samples = self.samples(refused=refused, slow_until=100)
            thirds = thirds_of(samples, (120, 140), warmup=5, good_seconds=1.0)
            return [finding.met for finding in SCENARIOS["overload"].findings(thirds, 5.0)]

        assert findings(5) == [True, True]
        assert findings(6) == [False, True]


class TestWatch:
    PAGE = """
# TYPE nv_cpu_utilization gauge
nv_cpu_utilization 0.25
# TYPE nv_cpu_memory_used_bytes gauge
nv_cpu_memory_used_bytes 1073741824
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-2"} 1.0
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 1048576
nv_gpu_memory_used_bytes{gpu_uuid="GPU-2"} 2097152
"""

    def watched(self, page: str) -> list[Reading]:
        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with watch([f"http://127.0.0.1:{server.server_port}/metrics"]) as readings:
                wait_until(lambda: readings, seconds=20)
            server.shutdown()
        return readings

    def test_the_machine_and_its_gpus(self) -> None:
        reading = self.watched(self.PAGE)[0]
        assert (reading.cpu, reading.memory_mib, reading.gpu, reading.gpu_memory_mib) == (0.25, 1024, 0.75, 3)
        assert abs(reading.time - time.time()) < 30

    def test_without_gpus(self) -> None:
        reading = self.watched(self.PAGE[: self.PAGE.index("# TYPE nv_gpu_utilization")])[0]
        assert reading.cpu == 0.25
        assert math.isnan(reading.gpu)
        assert math.isnan(reading.gpu_memory_mib)

    def test_a_server_that_is_not_there_leaves_a_gap(self) -> None:
        with watch(["http://127.0.0.1:1/metrics"]) as readings:
            time.sleep(1.2)
        assert readings == []

    def test_an_address_that_is_none(self) -> None:
        with (
            pytest.raises(InvalidArgumentError, match="such as http://host:8002/metrics, not clip:8002"),
            watch(["clip:8002"]),
        ):
            pass


class TestRelay:
    @pytest.fixture
    def echo(self) -> Iterator[socketserver.ThreadingTCPServer]:
        class Echo(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    while piece := self.request.recv(1 << 16):
                        self.request.sendall(piece)
                except ConnectionResetError:
                    resets.append(time.monotonic())

        resets = self.resets = list[float]()
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()

    def through(self, relay: Relay) -> socket.socket:
        host, port = relay.url.split(":")
        return socket.create_connection((host, int(port)), timeout=10)

    def test_it_is_as_slow_as_it_is_told(self, echo: socketserver.ThreadingTCPServer) -> None:
        host, port = echo.server_address[:2]
        with Relay(str(host), port, bytes_a_second=1_000_000) as relay, self.through(relay) as wire:
            begun, received = time.perf_counter(), b""
            wire.sendall(b"x" * 500_000)
            wire.shutdown(socket.SHUT_WR)
            while piece := wire.recv(1 << 16):
                received += piece
            assert received == b"x" * 500_000
            assert 0.5 < time.perf_counter() - begun < 5

    def test_the_server_sees_that_it_is_cut(self, echo: socketserver.ThreadingTCPServer) -> None:
        host, port = echo.server_address[:2]
        with Relay(str(host), port) as relay, self.through(relay) as wire:
            wire.sendall(b"hello")
            assert wire.recv(5) == b"hello"
            relay.cut()
            wait_until(lambda: self.resets, seconds=10)


def test_options_are_checked() -> None:
    for options, message in (
        ({"rate": 1.0, "users": 1}, "not rate and users"),
        ({"rate": 1.0, "scenario": "overload"}, "not rate and scenario"),
        ({"scenario": "war"}, "no scenario is called 'war'; known are overload, restart, bad-clients"),
        ({"scenario": "overload", "seconds": 12.0}, "of 4 seconds 5 cannot be warm-up"),
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
        with pytest.raises(InvalidArgumentError, match="has no colon"):
            Connection.from_environment("clip:8001")

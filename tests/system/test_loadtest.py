"""Tests of complete load tests: Locust's processes and arrivals, and the reports of `tuwen loadtest`.

`tests/unit/loadtest` tests the verdicts on known numbers. The tests here do not check how fast this machine is.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.command import tuwen, wait_until
from tests.support.grpc_server import GrpcServer
from tests.support.locust import PICTURES, locust, run_locust
from tests.support.web_page import chromium, open_browser
from tuwen import Client
from tuwen_loadtest._samples import read_samples
from tuwen_server import EmbeddedServer

pytestmark = pytest.mark.alone

# Returns the drawn parts of a chart outside its frame. Clipped lines and definitions are not drawn there.
OUTSIDE_THE_FRAME = """chart => {
    const frame = chart.getBoundingClientRect();
    const out = box => box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1;
    return [...chart.querySelectorAll("use, path")]
        .filter(part => !part.closest("defs, clipPath, [clip-path]") && out(part.getBoundingClientRect()))
        .map(part => part.outerHTML.slice(0, 200));
}"""


class Stall:
    """A stall of a server, which holds every response until a number of requests are in flight.

    Attributes:
        most: the largest number of requests that were in flight at once.
        ended: the time at which the stall ended, in Unix seconds; 0 before.
    """

    def __init__(self, requests: int) -> None:
        self._requests, self._in_flight = requests, 0
        self._lock, self._over = threading.Lock(), threading.Event()
        self.most, self.ended = 0, 0.0

    def __call__(self) -> None:
        with self._lock:
            self._in_flight += 1
            self.most = max(self.most, self._in_flight)
            if self._in_flight == self._requests and not self._over.is_set():
                self.ended = time.time()
                self._over.set()
        self._over.wait(60)
        with self._lock:
            self._in_flight -= 1


def check_in_browser(report: Path, *, expected: int) -> None:
    """Check in a browser that a report and its charts are not too wide for a desktop or a phone. Save screenshots.

    Without an installed browser, nothing is checked.
    """
    if chromium() is None:
        return
    pytest.importorskip("playwright.sync_api", reason="no Playwright")
    with open_browser() as browser:
        for width, shown in ((1100, "wide"), (390, "narrow")):
            tab = browser.new_page(viewport={"width": width, "height": 844})
            tab.goto(report.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            charts = tab.locator("svg:visible")
            assert charts.count() == expected
            for chart in charts.all():
                box = chart.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width
                assert shown in chart.locator("..").get_attribute("class").split()
                outside = chart.evaluate(OUTSIDE_THE_FRAME)
                assert not outside, outside
            tab.screenshot(path=report.with_name(f"report-{width}.png"), full_page=True)


def test_locust_runs_two_kinds_of_users_at_once(server: EmbeddedServer, tmp_path: Path) -> None:
    file = tmp_path / "samples.npz"
    with Client(server.grpc_url) as clip:
        before = clip.statistics()["image_embedding"].requests
        options = ["--users", "3", "--run-time", "3s", "--stop-timeout", "60", "--samples", str(file)]
        run_locust("--host", server.grpc_url, *options, "TextSearch", "BulkIndexing")
        kinds = Counter(sample.kind for sample in read_samples(file))
        assert set(kinds) == {"text", "bulk"}
        wait_until(lambda: clip.statistics()["image_embedding"].requests >= before + kinds["bulk"])


@pytest.mark.parametrize(
    ("arrivals", "users", "in_flight"),
    [
        ("closed", 2, 2),  # callers wait for their answers, so each has one slow request
        ("poisson", 40, 20),  # requests start at scheduled times, so all of them are slow
    ],
)
def test_a_stall_delays_every_request_scheduled_during_it(
    tmp_path: Path, arrivals: str, users: int, in_flight: int
) -> None:
    stall, file = Stall(in_flight), tmp_path / "samples.npz"
    with GrpcServer(before_answer=stall, workers=200) as server:
        options = ["--arrivals", arrivals, "--users", str(users), "--spawn-rate", str(users), "--run-time", "4s"]
        run_locust("--host", server.url, *options, "--stop-timeout", "90", "--samples", str(file), "TextSearch")
    samples = read_samples(file)
    assert {sample.outcome for sample in samples} == {"answered"}
    assert len(samples) == len(server.calls)
    assert stall.ended > 0, "too few requests were in flight to end the stall"
    felt = [sample for sample in samples if sample.due < stall.ended]
    # A latency counts from the scheduled start, so no request may end before the stall.
    assert min(sample.due + sample.seconds for sample in felt) > stall.ended - 0.1
    if arrivals == "closed":
        assert stall.most == len(felt) == users
    else:
        assert len(felt) >= in_flight


def test_two_locust_workers_report_one_load_test(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    file = tmp_path / "samples.npz"
    distributed = ["--master-bind-port", port, "--expect-workers", "2", "--samples", str(file)]
    load = ["--arrivals", "poisson", "--users", "40", "--spawn-rate", "40", "--run-time", "4s", "--stop-timeout", "60"]
    with GrpcServer() as server:
        master = locust(
            "--headless", "--only-summary", "--master", *distributed, "--host", server.url, *load, "TextSearch"
        )
        workers = [locust("--worker", "--master-port", port) for _ in range(2)]
        try:
            for process in (master, *workers):
                output, _ = process.communicate(timeout=240)
                assert process.returncode == 0, output
        finally:
            for process in (master, *workers):
                process.kill()
    samples = read_samples(file)
    assert {sample.outcome for sample in samples} == {"answered"}
    assert len(set(server.peers)) == 2  # the channels of two workers
    assert len(samples) == len(server.calls)


def test_rejects_queries_that_cannot_be_read(tmp_path: Path) -> None:
    options = ["--users", "1", "--run-time", "2s", "--queries", str(tmp_path / "none.txt")]
    assert "cannot read" in run_locust("--host", "127.0.0.1:1", *options, code=1)


class TestCommand:
    def test_a_repository_is_measured_and_reported(self, repository: Path, tmp_path: Path) -> None:
        options = ["--seconds", "8", "--warmup", "1", "--repetitions", "2", "--kind", "text", "--images", PICTURES]
        shown = tuwen("loadtest", str(repository), *options, "--slo", "failures<1%", "-o", str(tmp_path)).stdout
        assert shown.count("capacity") == 2
        assert "meet all objectives" in shown
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        assert len(report["runs"]) == len(report["curves"]) == 2
        for run, curve in zip(report["runs"], report["curves"], strict=True):
            assert len(curve["steps"]) == 8
            assert curve["capacity"] > 0
            summary = run["summary"]
            assert run["models"]["text_embedding"]["requests"] >= round(summary["requests"] * (1 - summary["errors"]))
            assert run["server_cpu"] > 0
            assert run["server_memory_mib"] > 0
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert page.count("<svg") == 4  # two charts, each for a page and for a phone
        assert "fingerprint" in page
        assert "The ramp, step by step" in page
        assert "<td>└ text_encoder</td>" in page
        assert "good per second" not in page  # no objective says which answers are good
        check_in_browser(tmp_path / "report.html", expected=2)

    @pytest.mark.parametrize(
        ("scenario", "seconds", "findings"),
        [
            ("overload", 9, ["good answers at twice the capacity", "normal again"]),
            ("restart", 30, ["requests lost during the restarts: 0 of"]),  # each server takes a few seconds
            ("bad-clients", 12, ["requests that other clients lost: 0 of", "p99 of other clients"]),
        ],
    )
    def test_a_scenario_causes_its_trouble_and_gives_a_verdict(
        self, repository: Path, tmp_path: Path, scenario: str, seconds: int, findings: Sequence[str]
    ) -> None:
        load = ["--capacity", "60", "--seconds", str(seconds), "--warmup", "1", "--kind", "text", "--deadline", "30"]
        options = ["--scenario", scenario, *load, "--images", PICTURES, "-o", str(tmp_path)]
        output = tuwen("loadtest", str(repository), *options, "--slo", "failures<1%", code=None).stdout
        for finding in [*findings, "failures<1% afterwards"]:
            assert finding in output
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        [phases], [run] = report["phases"], report["runs"]
        assert phases["begin"] < phases["end"]
        assert {"before", "trouble", "after"} <= set(phases)
        assert run["summary"]["requests"] > 0
        if scenario == "restart":
            assert run["generator_cpu"] is None  # unknown: the counters of the restarted servers began at 0
        else:
            assert run["models"]["text_embedding"]["requests"] > 0
        assert run["readings"]
        assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<svg") == 2
        check_in_browser(tmp_path / "report.html", expected=1)

    def test_a_missed_objective_sets_the_exit_code(self, server: EmbeddedServer, tmp_path: Path) -> None:
        load = ["--rate", "30", "--seconds", "4", "--warmup", "1", "--repetitions", "1", "--kind", "text"]
        options = [server.grpc_url, *load, "--images", PICTURES, "-o", str(tmp_path)]
        shown = tuwen("loadtest", *options, "--slo", "failures<1%,throughput>1000/s", code=1).stdout
        assert "met    failures<1%" in shown
        assert "MISSED throughput>1000/s" in shown

    def test_rejects_invalid_options_and_targets(self, tmp_path: Path) -> None:
        for arguments, message, code in (
            (("--slo", "quick"), "expected an objective such as p99<200ms", 2),
            (
                ("--rate", "1", "--users", "1"),
                "expected only one of rate, users and scenario, got rate and users",
                1,
            ),
            (("localhost:1", "--scenario", "restart"), "expected the folder of a repository, got 'localhost:1'", 1),
            (("localhost:1", "--rate", "1"), "cannot connect: nothing listens at this address", 1),
        ):
            assert message in " ".join(tuwen("loadtest", *arguments, "-o", str(tmp_path), code=code).stderr.split())

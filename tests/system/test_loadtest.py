"""Locust over the SDK against the real server: what it counts is what the server did."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.command import tuwen
from tests.support.paths import ROOT
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen_build.samples import sample
from tuwen_build.server import EmbeddedServer, ServerOptions
from tuwen_loadtest._samples import Sample, read_samples

pytestmark = pytest.mark.alone

LOCUSTFILE = ROOT / "loadtest" / "locustfile.py"
PICTURES = str(sample("cat.jpg").parent)


def locust(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--images", PICTURES, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(*arguments: str, code: int = 0) -> str:
    process = locust("--headless", "--only-summary", *arguments)
    try:
        output, _ = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == code, output
    return output


def answered(samples: Sequence[Sample], kind: str) -> int:
    return Counter((sample.kind, sample.outcome) for sample in samples)[kind, "answered"]


def test_callers_of_every_kind(server: EmbeddedServer, tmp_path: Path) -> None:
    """Also: it ends by itself, which gRPC under gevent does not when a channel is left open."""
    with Client(server.grpc_url) as clip:
        before = clip.statistics()
        file = tmp_path / "samples.npz"
        options = ["--host", server.grpc_url, "--users", "20", "--spawn-rate", "20", "--run-time", "4s"]
        output = run(*options, "--stop-timeout", "20", "--samples", str(file))
        after = clip.statistics()
    samples = read_samples(file)
    assert {sample.kind for sample in samples} == {"image", "text", "similarity"}
    assert {sample.outcome for sample in samples} == {"answered"}
    images, texts, both = (answered(samples, kind) for kind in ("image", "text", "similarity"))
    assert after["image_embedding"].requests - before["image_embedding"].requests == images + both
    # one text is a request, and so are the five of a similarity
    assert after["text_embedding"].requests - before["text_embedding"].requests >= texts + both
    assert images > 20
    assert texts > 20
    assert f"{len(samples)}" in output  # Locust's own table agrees


def test_indexing_beside_search(server: EmbeddedServer, tmp_path: Path) -> None:
    file = tmp_path / "samples.npz"
    run(
        "--host",
        server.grpc_url,
        "-u",
        "3",
        "-t",
        "3s",
        "-s",
        "20",
        "--samples",
        str(file),
        "TextSearch",
        "BulkIndexing",
    )
    kinds = Counter(sample.kind for sample in read_samples(file))
    assert set(kinds) == {"text", "bulk"}
    assert kinds["text"] > kinds["bulk"] > 0


def test_a_frozen_server_is_seen_by_all_who_came_meanwhile(repository: Path, tmp_path: Path) -> None:
    """Two seconds of SIGSTOP: for callers who wait it is a few slow requests, for arrivals a tenth of them."""
    slow = {}
    with RecordedServer(repository, ServerOptions.on_free_ports()) as server, Client(server.grpc_url) as clip:
        clip.embed_texts(["猫"])
        for arrivals in ("closed", "poisson"):
            file = tmp_path / f"{arrivals}.npz"
            users = "2" if arrivals == "closed" else "40"
            options = ["--arrivals", arrivals, "-u", users, "-r", "40", "-t", "10s", "-s", "20", "--samples", str(file)]
            process = locust("--headless", "--only-summary", "--host", server.grpc_url, *options, "TextSearch")
            time.sleep(6)
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(2)
            os.kill(server.pid, signal.SIGCONT)
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 0, output
            seconds = np.array([sample.seconds for sample in read_samples(file)])
            slow[arrivals] = (seconds > 1.0).mean()
            p99 = np.quantile(seconds, 0.99)
            print(f"{arrivals}: {len(seconds)} requests, p99 {p99:.3f} s, slow {slow[arrivals]:.1%}")
    assert slow["closed"] < 0.01
    assert 0.05 < slow["poisson"] < 0.2


def test_two_workers_are_one_test(server: EmbeddedServer, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    file = tmp_path / "samples.npz"
    distributed = ["--master-bind-port", port, "--expect-workers", "2", "--samples", str(file)]
    load = ["--arrivals", "poisson", "-u", "40", "-r", "40", "-t", "6s", "-s", "20", "TextSearch"]
    master = locust("--headless", "--only-summary", "--master", *distributed, "--host", server.grpc_url, *load)
    workers = [locust("--worker", "--master-port", port) for _ in range(2)]
    try:
        output, _ = master.communicate(timeout=90)
        assert master.returncode == 0, output
        for worker in workers:
            output, _ = worker.communicate(timeout=30)
            assert worker.returncode == 0, output
    finally:
        for process in (master, *workers):
            process.kill()
    samples = read_samples(file)
    assert {sample.outcome for sample in samples} == {"answered"}
    assert len(samples) == pytest.approx(40 * 6, rel=0.25)


def test_what_makes_no_sense_is_said(server: EmbeddedServer, tmp_path: Path) -> None:
    output = run("--host", server.grpc_url, "-u", "1", "-t", "2s", "--queries", str(tmp_path / "none.txt"), code=1)
    assert "cannot read" in output


class TestCommand:
    def test_what_a_repository_holds(self, repository: Path, tmp_path: Path) -> None:
        options = ["--seconds", "12", "--warmup", "1", "--repetitions", "2", "--kind", "text", "--images", PICTURES]
        shown = tuwen("loadtest", str(repository), *options, "--slo", "p50<5s,failures<1%", "-o", str(tmp_path)).stdout
        assert shown.count("capacity") == 2
        assert "meet all objectives" in shown
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        assert len(report["runs"]) == len(report["curves"]) == 2
        for run, curve in zip(report["runs"], report["curves"], strict=True):
            offered = [step["offered"] for step in curve["steps"]]
            assert offered[-1] > 3 * offered[0]
            assert curve["promised"] > 0
            assert run["models"]["text_embedding"]["requests"] > 100
            assert 0 < run["server_cpu"] < 3
            assert run["server_memory_mib"] > 100
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert page.count("<svg") == 2
        assert "fingerprint" in page

    @pytest.mark.parametrize(
        ("scenario", "findings"),
        [
            ("overload", ["good answers at twice the capacity", "back to normal"]),
            ("restart", ["requests lost during the restarts: 0 of"]),
            ("bad-clients", ["requests that others lost: 0 of", "their p99"]),
        ],
    )
    def test_trouble(self, repository: Path, tmp_path: Path, scenario: str, findings: Sequence[str]) -> None:
        seconds = "45" if scenario == "restart" else "18"  # each server takes a few seconds
        load = ["--capacity", "60", "--seconds", seconds, "--warmup", "1", "--kind", "text", "--deadline", "5"]
        options = ["--scenario", scenario, *load, "--images", PICTURES, "-o", str(tmp_path)]
        output = tuwen("loadtest", str(repository), *options, "--slo", "p50<2s", code=None).stdout
        report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        for finding in [*findings, "p50<2s afterwards"]:
            assert finding in output
        print(report["findings"])
        assert report["findings"][0]["met"], output
        [thirds] = report["thirds"]
        assert all(thirds[third]["requests"] > 50 for third in ("before", "trouble", "after"))
        [run] = report["runs"]
        assert run["models"]["text_embedding"]["requests"] > 100
        assert max(reading["cpu"] for reading in run["readings"]) > 0
        assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<svg") == 1

    def test_a_missed_objective_is_the_exit_code(self, server: EmbeddedServer, tmp_path: Path) -> None:
        load = ["--rate", "30", "--seconds", "4", "--warmup", "1", "--repetitions", "1", "--kind", "text"]
        options = [server.grpc_url, *load, "--images", PICTURES, "-o", str(tmp_path)]
        assert "MISSED p50<1ms" in tuwen("loadtest", *options, "--slo", "p50<1ms", code=1).stdout
        assert "met    p50<2s" in tuwen("loadtest", *options, "--slo", "p50<2s").stdout

    def test_what_makes_no_sense_is_said(self, tmp_path: Path) -> None:
        for arguments, message in (
            (("--slo", "quick"), "write it like p99<200ms"),
            (("--rate", "1", "--users", "1"), "not rate and users"),
            (("localhost:1", "--scenario", "restart"), "name the folder of a repository"),
            (("localhost:1", "--rate", "1"), "Failed to connect"),
        ):
            assert message in tuwen("loadtest", *arguments, "-o", str(tmp_path), code=1).stderr

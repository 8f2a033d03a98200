"""Tests that the benchmark measures a real server and its encoders alone. They do not check the measured speeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuwen_loadtest.bench import _priority, startup
from tuwen_loadtest.bench._loop import Loop, write_work
from tuwen_loadtest.bench._priority import measure_beside_jobs
from tuwen_loadtest.bench._rounds import Ours, Plan, compare, curves
from tuwen_loadtest.bench._service import service
from tuwen_loadtest.bench._waits import measure_waits
from tuwen_loadtest.bench.interactive import measure_interactive
from tuwen_server.traffic import Work, photographs, queries

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def work() -> Work:
    return Work(photographs(16), queries(50_000))


@pytest.fixture(scope="module")
def work_file(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bench") / "work.json"
    write_work(Work(work.images, work.texts[:64]), file)
    return file


def test_every_contestant_is_measured_in_every_round(repository: Path, work: Work, work_file: Path) -> None:
    plan, said = Plan(rounds=1, seconds=0.1, threads=1), list[str]()
    with Loop("encoder", repository, work_file, 1) as encoder, service(repository, work) as mine:
        contestants = {"fp32": Ours(encoder, {"images": 8, "texts": 16}, mine)}
        rounds, peers = compare(contestants, {"another": encoder}, None, plan, said.append)
        vectors = mine.vectors()
    assert said[0] == "round 1 of 1: fp32 images"
    assert len(said) == 4
    for kind, found in rounds["fp32"].items():
        assert len(found) == len(peers["another"][kind]) == 1
        for one in found:
            assert one.encoder.rate > 0
            assert one.encoder_alone.median > 0
            assert one.saturated.answers.rate > 0
            assert one.alone.answers.latencies
            assert one.alone.encoder_seconds > 0
            assert 1 <= one.saturated.batch <= 32
            assert one.saturated.cpu_seconds > 0
            assert [step.load for step in one.steps] == [0.5, 1.0, 2.0, 4.0]
            assert (one.cached is None) == (kind == "images")
            assert one.cached is None or one.cached.latencies
    assert [len(rows) for rows in vectors] == [16, 64]


def test_encoders_alone_are_measured_at_every_batch_size_and_length(repository: Path, work_file: Path) -> None:
    with Loop("encoder", repository, work_file, 1) as encoder:
        found = curves(encoder, Plan(rounds=1, seconds=0.1, threads=1))
    assert set(found["images"]) == set(found["texts"]) == {1, 2, 4, 8, 16, 32}
    assert set(found["lengths"]) == {8, 16, 24, 32, 52}
    assert all(timing.rate > 0 for curve in found.values() for timing in curve.values())


def test_calls_that_wait_for_the_batcher_are_counted(repository: Path) -> None:
    found = measure_waits(repository, 2)
    calls = {
        "the same text again": 10,
        "1 text": 10,
        "2 texts": 2,
        "8 texts": 2,
        "64 texts": 2,
        "16 images": 2,
        "32 images": 2,
        "4 callers at once": 2,
        "16 callers at once": 2,
    }
    with_policies = {f"{kind}, with queue policies": count for kind, count in calls.items()}
    assert {kind: waits.calls for kind, waits in found.items()} == calls | with_policies
    assert all(waits.longest > 0 for waits in found.values())


def test_a_caller_is_measured_beside_interactive_and_bulk_jobs(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_priority, "_LARGE", (64, 64))
    found = measure_beside_jobs(repository, 2)
    assert set(found) == {"interactive", "bulk"}
    assert all(seconds > 0 for seconds in found.values())


def test_bursts_and_single_calls_beside_streams_are_measured(repository: Path) -> None:
    bursts, beside = measure_interactive(repository, 0.1, sizes=(2, 8))
    assert [(burst.kind, burst.calls) for burst in bursts] == [
        ("texts", 2),
        ("texts", 8),
        ("images", 2),
        ("images", 8),
    ]
    for burst in bursts:
        assert set(burst.latencies) == {"SDK", "plain requests", "`dynamic_batching { }`"}
        assert all(len(latencies) >= 3 * burst.calls for latencies in burst.latencies.values())
    pairs = [(one.kind, one.stream) for one in beside]
    assert pairs == [("texts", "texts"), ("images", "texts"), ("texts", "images"), ("images", "images")]
    assert all(one.alone > 0 and one.beside > 0 for one in beside)


def test_a_benchmark_loop_that_cannot_start_prints_the_reason(work_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"the loop 'encoder' failed\.(.|\n)*model.pt"):
        Loop("encoder", tmp_path, work_file, 1)


def test_the_start_time_and_memory_of_a_model_are_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "_STARTS", 1)
    startup.main(["tiny", "--precisions", "fp32"])
    name, weights, ready, memory = [
        cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].strip("|").split("|")
    ]
    assert name == "tiny, fp32"
    assert all(float(figure) > 0 for figure in (weights, ready, memory))

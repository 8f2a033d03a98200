"""The benchmark measures what there is: a real service, and its encoders alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuwen_build.traffic import Work, photographs, queries
from tuwen_loadtest.bench import startup
from tuwen_loadtest.bench._contestants import Plan, measure_service, run_loop, write_work


@pytest.fixture(scope="module")
def work() -> Work:
    return Work(photographs(16), queries(50_000))


def test_a_service_is_measured(repository: Path, work: Work) -> None:
    found = measure_service(repository, work, Plan(seconds=0.4, warmup=0.2, threads=1))
    assert set(found) == {"images", "texts"}
    for service in found.values():
        assert service.saturated.rate > service.alone.rate / 2
        assert 1 <= service.batch <= 32
        assert 0 < service.cpu_seconds < 1
        assert [step.load for step in service.steps] == [0.5, 0.8, 1.0, 2.0, 4.0]
        assert all(step.answers.latencies for step in service.steps)
    assert found["images"].cached is None
    assert found["texts"].cached is not None
    assert found["texts"].cached.quantile(0.5) < found["texts"].alone.quantile(0.99)


def test_encoders_alone_are_measured_in_every_size(repository: Path, work: Work, tmp_path: Path) -> None:
    write_work(Work(work.images, work.texts[:64]), tmp_path / "work.json")
    limits = run_loop("encoder", repository, tmp_path / "work.json", 1, 0.02)
    assert set(limits["images"]) == set(limits["texts"]) == {"1", "2", "4", "8", "16", "32"}
    assert limits["images"]["32"] > 0
    assert limits["lengths"]["8"] > limits["lengths"]["52"]


def test_a_loop_that_fails_says_why(work: Work, tmp_path: Path) -> None:
    write_work(Work(work.images[:1], work.texts[:1]), tmp_path / "work.json")
    with pytest.raises(SystemExit, match=r"the loop encoder failed:(.|\n)*model.pt"):
        run_loop("encoder", tmp_path, tmp_path / "work.json", 1, 0.02)


def test_starts_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    startup.main(["tiny", "--precisions", "fp32"])
    name, weights, ready, memory = [
        cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].strip("|").split("|")
    ]
    assert name == "tiny, fp32"
    assert float(weights) > 5
    assert 0.5 < float(ready) < 120
    assert float(memory) > 100

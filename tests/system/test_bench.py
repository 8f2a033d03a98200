"""The benchmark measures what there is: a real service, and its encoders alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuwen_build.traffic import Work, photographs, queries
from tuwen_loadtest.bench import startup
from tuwen_loadtest.bench._loop import Loop, write_work
from tuwen_loadtest.bench._rounds import Ours, Plan, compare, curves
from tuwen_loadtest.bench._service import service

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def work() -> Work:
    return Work(photographs(16), queries(50_000))


@pytest.fixture(scope="module")
def work_file(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bench") / "work.json"
    write_work(Work(work.images, work.texts[:64]), file)
    return file


def test_everybody_has_a_turn_in_every_round(repository: Path, work: Work, work_file: Path) -> None:
    plan, said = Plan(rounds=2, seconds=0.1, threads=1), list[str]()
    with Loop("encoder", repository, work_file, 1) as encoder, service(repository, work) as mine:
        contestants = {"fp32": Ours(encoder, {"images": 8, "texts": 16}, mine)}
        rounds, peers = compare(contestants, {"another": encoder}, None, plan, said.append)
        vectors = mine.vectors()
    assert said[0] == "round 1 of 2: fp32 images"
    assert len(said) == 8
    for kind, found in rounds["fp32"].items():
        assert len(found) == len(peers["another"][kind]) == 2
        for one in found:
            assert one.encoder.rate > 0
            assert one.encoder_alone.median > 0
            assert one.saturated.answers.rate > one.alone.answers.rate / 2
            assert 0 < one.alone.encoder_seconds < one.alone.answers.quantile(1.0)
            assert 0 < one.alone.added < one.alone.answers.quantile(1.0)
            assert 1 <= one.saturated.batch <= 32
            assert 0 < one.saturated.cpu_seconds < 1
            assert [step.load for step in one.steps] == [0.5, 1.0, 2.0, 4.0]
            # At half of it there may be none so soon; twice a tiny model's is more than one event loop can ask for.
            assert one.steps[1].answers.latencies
            assert (one.cached is None) == (kind == "images")
            assert one.cached is None or one.cached.quantile(0.5) < one.alone.answers.quantile(0.99)
    assert [len(rows) for rows in vectors] == [16, 64]


def test_encoders_alone_are_measured_in_every_size(repository: Path, work_file: Path) -> None:
    with Loop("encoder", repository, work_file, 1) as encoder:
        found = curves(encoder, Plan(rounds=1, seconds=0.1, threads=1))
    assert set(found["images"]) == set(found["texts"]) == {1, 2, 4, 8, 16, 32}
    assert found["images"][32].rate > 0
    assert found["lengths"][8].rate > found["lengths"][52].rate


def test_a_loop_that_fails_says_why(work_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"the loop encoder failed:(.|\n)*model.pt"):
        Loop("encoder", tmp_path, work_file, 1)


def test_starts_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    startup.main(["tiny", "--precisions", "fp32"])
    name, weights, ready, memory = [
        cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].strip("|").split("|")
    ]
    assert name == "tiny, fp32"
    assert float(weights) > 5
    assert 0.5 < float(ready) < 120
    assert float(memory) > 100

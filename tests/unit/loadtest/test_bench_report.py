"""The report of the benchmark, and the number of calls that waited for the batcher, from known measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.support.clocks import ManualClock
from tuwen_loadtest.bench._report import write_report
from tuwen_loadtest.bench._results import Lone, Results, Round, Saturated, Start, Step, Timing
from tuwen_loadtest.bench._waits import Waits, count_waits
from tuwen_loadtest.bench.interactive import Beside, Burst
from tuwen_server.traffic import Answers

RATES = {"images": 20.0, "texts": 180.0}


def test_calls_of_more_than_400_ms_count_as_waiting_for_the_batcher() -> None:
    clock, seconds = ManualClock(), iter([0.01, 0.52, 0.39, 0.41, 0.02])
    waits = count_waits(lambda: clock.pause(next(seconds)), 5, clock=clock.now)
    assert (waits.calls, waits.waited, waits.longest) == (5, 2, pytest.approx(0.52))


def test_the_report_shows_medians_spreads_and_ratios(tmp_path: Path) -> None:
    def timing(batch: int, rate: float) -> Timing:
        return Timing(rate, batch / rate, 0.02)

    def rounds(kind: str, rate: float, limit: Timing, first: Timing) -> list[Round]:
        alone = Answers(1.0, (first.median + 0.004,) * 10)
        saturated = [Answers(1.0, (1.0,) * round(rate * factor)) for factor in (1.0, 0.8, 1.2)]
        return [
            Round(
                limit,
                first,
                Lone(alone, first.median + 0.001),
                Saturated(answers, 7.5, 0.1),
                [
                    Step(load, Answers(1.0, (1.0,) * int(rate * share), (0.01,) * 2), 8.0)
                    for load, share in ((1.0, 0.9), (2.0, 1.0))
                ],
                alone if kind == "texts" else None,
            )
            for answers in saturated
        ]

    curves = {
        "images": {1: timing(1, 10), 8: timing(8, 20)},
        "texts": {1: timing(1, 100), 8: timing(8, 200)},
        "lengths": {8: timing(8, 300), 16: timing(8, 200)},
    }
    results = Results(
        {"processor": "P", "cores": "1 for the service", "torch": "2"},
        {"fp32": curves},
        {"fp32": Start(3.0, 900.0)},
        {"fp32": {kind: rounds(kind, rate, curves[kind][8], curves[kind][1]) for kind, rate in RATES.items()}},
        {"fp32": {"images": 1.0, "texts": 1.0}},
        {
            "LitServe": {"images": [10.0, 10.0, 10.0], "texts": [90.0, 90.0, 90.0]},
            "transformers": {"images": [9.0] * 3, "texts": [60.0] * 3, "texts padded to 52": [36.0, 36.0, 18.0]},
        },
        {"tuwen": {"640x480": 200.0}, "plain Pillow": {"640x480": 190.0}},
        {"1 text": Waits(1000, 3, 0.51), "32 images": Waits(200, 0, 0.08)},
        {"interactive": 0.9, "bulk": 0.2},
        [Burst("texts", 2, {"SDK": [0.03], "`dynamic_batching { }`": [0.02]})],
        [Beside("texts", "images", 0.02, 0.05, 10.0, 8.0)],
    )
    write_report("a model", results, tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| tuwen fp32 | 20.00 | 2.00 (1.60 to 2.40) | 180.0 | 2.00 (1.60 to 2.40) | 5.00 (4.00 to 12.00) |" in report
    assert "| LitServe | 10.00 | 1.00 (1.00 to 1.00) | 90.0 | 1.00 (1.00 to 1.00) |  |" in report
    assert (
        "| fp32, images | 1.00 (0.80 to 1.20) | 7.5 | 100.0 | 100.0 ms | 104.0 ms | 104.0 ms | 3.0 (3.0 to 3.0) ms |"
        in report
    )
    assert "| 1 x | fp32 images | 90% | 8.0 | 1000 ms | not answered | 10% | 10 ms |" in report
    assert "| 1 text | 3 in 1000 | 510 ms |" in report
    assert "| 32 images | 0 in 200 | 80 ms |" in report
    assert "beside 16 jobs, p50 by the priority of the jobs: 900 ms (interactive), 200 ms (bulk)" in report
    assert "| 2 texts | 30; 30 | 20; 20 | 1.50; 1.50 |" in report
    assert "| one text during a stream of images | 20 | 50 | 2.5 | 10.0 | 8.0 |" in report
    assert "A cached text, p50 and p99: fp32 14.00 and 14.00 ms" in report
    assert "at most fp32 images 20 ms, fp32 texts 20 ms" in report
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert written["rounds"]["fp32"]["texts"][0]["saturated"]["batch"] == 7.5
    for name in ("throughput.png", "load.png", "cost.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 800

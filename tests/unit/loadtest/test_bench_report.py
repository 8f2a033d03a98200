"""The benchmark's own parts: the work, the load, and the report over known numbers."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from PIL import Image

from tuwen_build.traffic import Answers
from tuwen_loadtest._usage import usage_of
from tuwen_loadtest.bench._report import write_report
from tuwen_loadtest.bench._results import Lone, Results, Round, Saturated, Start, Step, Timing

RATES = {"images": 20.0, "texts": 180.0}


class TestMeasuring:
    def test_what_a_process_used_grows(self) -> None:
        before = usage_of(os.getpid())
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        assert usage_of(os.getpid()).cpu_seconds - before.cpu_seconds >= 0.15
        assert before.memory_mib > 10


def test_the_report_says_what_the_numbers_say(tmp_path: Path) -> None:
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
    )
    write_report("a model", results, tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| tuwen fp32 | 20.00 | 2.00 (1.60 to 2.40) | 180.0 | 2.00 (1.60 to 2.40) | 5.00 (4.00 to 12.00) |" in report
    assert "| LitServe | 10.00 | 1.00 (1.00 to 1.00) | 90.0 | 1.00 (1.00 to 1.00) |  |" in report
    assert (
        "| fp32, images | 1.00 (0.80 to 1.20) | 7.5 | 100.0 | 100.0 ms | 104.0 ms | 104.0 ms | 3.0 (3.0 to 3.0) ms |"
        in report
    )
    assert "| 1 x | fp32 images | 90% | 8.0 | 1000 ms | 1000 ms | 10% | 10 ms |" in report
    assert "A cached text, p50 and p99: fp32 14.00 and 14.00 ms" in report
    assert "at most fp32 images 20 ms, fp32 texts 20 ms" in report
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert written["rounds"]["fp32"]["texts"][0]["saturated"]["batch"] == 7.5
    for name in ("throughput.png", "load.png", "cost.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 800

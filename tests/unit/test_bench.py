"""The benchmark's own parts: the work, the load, and the report over known numbers."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from PIL import Image

from tuwen_build.traffic import Answers
from tuwen_loadtest._usage import usage_of
from tuwen_loadtest.bench._contestants import Service, Step
from tuwen_loadtest.bench._report import write_report
from tuwen_loadtest.bench._results import Results


class TestMeasuring:
    def test_what_a_process_used_grows(self) -> None:
        before = usage_of(os.getpid())
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass
        assert usage_of(os.getpid()).cpu_seconds - before.cpu_seconds >= 0.15
        assert before.memory_mib > 10


def test_the_report_says_what_the_numbers_say(tmp_path: Path) -> None:
    def service(rate: float, seconds: float) -> Service:
        alone = Answers(1.0, (seconds,) * 10)
        steps = [Step(load, load * rate, Answers(1.0, (1.0,) * int(rate), (0.01,) * 2), 8.0) for load in (1.0, 2.0)]
        return Service(3.0, 900.0, alone, Answers(1.0, (1.0,) * int(rate)), 7.5, 0.1, steps, alone)

    limits = {
        "images": {"1": 10.0, "8": 20.0},
        "texts": {"1": 100.0, "8": 200.0},
        "lengths": {"8": 300.0, "16": 200.0},
        "first": {"images": 0.02, "texts": 0.003},
    }
    results = Results(
        {"processor": "P", "cores": "1 for the service", "torch": "2"},
        {"fp32": limits},
        {"fp32": {"images": service(19, 0.104), "texts": service(180, 0.011)}},
        {"fp32": {"images": 1.0, "texts": 1.0}},
        {
            "LitServe": {"images": 10.0, "texts": 90.0},
            "transformers": {"images": 9.0, "texts": 60.0, "texts padded to 52": 36.0},
        },
        {"tuwen": {"640x480": 200.0}, "plain Pillow": {"640x480": 190.0}},
    )
    write_report("a model", results, tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| tuwen fp32 | 19.00 | 1.90 | 180.0 | 2.00 | 5.00 |" in report
    assert "| LitServe | 10.00 | 1.00 | 90.0 | 1.00 |  |" in report
    assert "| fp32, images | 95% | 7.5 | 100.0 | 104.0 ms | 104.0 ms | 4.0 ms |" in report
    assert "| fp32, texts | 90% | 7.5 | 100.0 | 11.0 ms | 11.0 ms | 1.0 ms |" in report
    assert "| 2 x | fp32 images | 100% | 8.0 | 1000 ms | 1000 ms | 10% | 10 ms |" in report
    assert "A cached text, p99: 11.00 ms" in report
    assert "at most fp32 images 20 ms, fp32 texts 3 ms" in report
    assert (
        json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["services"]["fp32"]["texts"]["batch"] == 7.5
    )
    for name in ("throughput.png", "load.png", "cost.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 800

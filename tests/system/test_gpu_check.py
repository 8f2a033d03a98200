"""Run the GPU check on the CPU, with the smallest model. The measured speeds are not checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuwen_loadtest.gpu_check.__main__ import main

pytestmark = pytest.mark.alone


def test_the_gpu_check_runs_on_a_machine_without_a_gpu(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--models", "tiny", "--precisions", "fp32", "bf16", "--batches", "1", "4"]
    assert main([*options, "--instances", "2", "--seconds", "0.2", "--output", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["models"]["tiny"]
    assert set(found) == {"fp32", "bf16"}
    assert found["fp32"]["exactness"]["images"]["max_abs"] == 0  # the CPU is compared with itself
    assert 0 < found["bf16"]["exactness"]["texts"]["max_abs"] < 0.1
    for precision in found.values():
        assert set(precision["rates"]["images"]) == set(precision["rates"]["texts"]) == {"1", "4"}
        assert [served["instances"] for served in precision["served"]] == [2]
        for served in precision["served"]:
            assert all(served[name] > 0 for name in ("jpeg_rate", "pixel_rate", "text_rate", "alone_seconds"))
            assert served["host_mib"] > 0

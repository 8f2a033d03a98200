"""The report and the verdict of the GPU check, from known measurements, and its error on a machine without a GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tuwen_loadtest.gpu_check.__main__ import main
from tuwen_loadtest.gpu_check._encoders import exactness
from tuwen_loadtest.gpu_check._report import write_report
from tuwen_loadtest.gpu_check._results import Exactness, Found, Results, Served

EXACT = Exactness(max_abs=2e-7, min_cosine=0.99999, within=True)
SERVED = Served(2, 1234.0, 2345.0, 3456.0, 0.0071, 0.42, 900.0, 1500.0)
FOUND = Found(
    {"images": EXACT, "texts": EXACT}, {kind: {1: 90.0, 32: 4000.0} for kind in ("images", "texts")}, [SERVED]
)
RESULTS = Results("NVIDIA Some Card", 16, 4.1, {"torch": "2.13"}, {"ViT-B/16": {"fp32": FOUND}})


def test_the_report_names_the_gpu_and_shows_the_measurements(tmp_path: Path) -> None:
    write_report(RESULTS, tmp_path)
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert report.startswith("# NVIDIA Some Card, 16 cores\n")
    assert "| ViT-B/16, fp32 | images | 2.0e-07 | 0.9999900 | kept | 90 | 4000 |" in report
    assert "| ViT-B/16, fp32 | 2 | 1234 | 2345 | 3456 | 7.1 | 42% | 900 | 1500 |" in report
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["device"] == "NVIDIA Some Card"
    for plot in ("encoders.png", "service.png"):
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")


def test_the_report_says_that_the_memory_of_the_device_is_unknown(tmp_path: Path) -> None:
    found = replace(FOUND, served=[replace(SERVED, device_mib=None)])
    write_report(replace(RESULTS, models={"ViT-B/16": {"fp32": found}}), tmp_path)
    assert "| 42% | unknown | 1500 |" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_precision_outside_its_bound_fails_the_check(tmp_path: Path) -> None:
    broken = replace(FOUND, exactness={"images": EXACT, "texts": replace(EXACT, within=False)})
    results = replace(RESULTS, models={"ViT-B/16": {"fp32": FOUND, "fp16": broken}})
    assert RESULTS.exact
    assert not results.exact
    write_report(results, tmp_path)
    assert "BROKEN" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("error", "within"), [(9e-6, True), (8.3e-5, False), (float("nan"), False)])
def test_fp32_has_the_same_bound_as_in_a_build(error: float, within: bool) -> None:
    """An fp32 vector with an error of 8.3e-5, which TF32 convolutions cause, is outside the bound."""
    reference = torch.nn.functional.normalize(torch.ones(2, 16, dtype=torch.float64), dim=-1)
    vectors = reference.clone()
    vectors[1, 3] += error
    assert exactness(vectors, reference, "fp32", 12).within == within


def test_the_check_fails_on_a_machine_without_a_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        main([])
    assert "cannot check a GPU: " in capsys.readouterr().err

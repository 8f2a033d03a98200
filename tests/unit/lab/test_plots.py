"""Plots of measurements: their bars, their file formats, and no file after a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuwen import InvalidArgumentError
from tuwen_lab.evaluation import plots
from tuwen_lab.evaluation.calibration import calibrate

POSITIVES = np.linspace(0.2, 0.4, 40, dtype=np.float32)
NEGATIVES = np.linspace(0.0, 0.3, 80, dtype=np.float32)


def test_the_bars_of_each_class_add_up_to_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "_save", lambda figure, _: drawn.append(figure))
    plots.plot_calibration(POSITIVES, NEGATIVES, calibrate(POSITIVES, NEGATIVES, recall=0.5), tmp_path / "plot.png")
    above = drawn[0].axes[0]
    assert sum(bar.get_height() for bar in above.patches) == pytest.approx(2)
    assert above.get_ylabel() == "share of each kind"


@pytest.mark.parametrize("name", ["plot.png", "plot.svg"])
def test_the_suffix_of_the_name_decides_the_format_of_a_plot(tmp_path: Path, name: str) -> None:
    plots.plot_calibration(POSITIVES, NEGATIVES, calibrate(POSITIVES, NEGATIVES, recall=0.5), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (b"<svg" in (tmp_path / name).read_bytes()) == name.endswith(".svg")


def test_an_unknown_format_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cannot write .*plot\.xyz"):
        plots.plot_calibration(POSITIVES, NEGATIVES, calibrate(POSITIVES, NEGATIVES, recall=0.5), tmp_path / "plot.xyz")
    assert not list(tmp_path.iterdir())

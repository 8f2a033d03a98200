"""Thresholds chosen from judged pictures, and their recall and precision on pictures that were not judged."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tuwen import InvalidArgumentError
from tuwen_lab.evaluation.calibration import calibrate, wilson_interval


def scores(count: int, mean: float, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(mean, 0.04, count)


def test_reaches_a_wanted_recall_on_held_out_pictures_with_3_percent_positives() -> None:
    reached, covered = [], []
    for seed in range(200):
        calibration = calibrate(scores(30, 0.4, seed), scores(970, 0.3, 1000 + seed), recall=0.9)
        reached.append((scores(2000, 0.4, 9999) >= calibration.cosine).mean())
        covered.append(calibration.recall.low <= reached[-1] <= calibration.recall.high)
    assert np.mean(np.array(reached) >= 0.9) >= 0.75  # the promise has a confidence of 80 %
    assert np.mean(covered) >= 0.8


def test_reaches_a_wanted_precision_at_the_base_rate() -> None:
    calibration = calibrate(scores(200, 0.45, 1), scores(2000, 0.3, 2), precision=0.8, base_rate=0.03)
    found = (scores(20_000, 0.45, 3) >= calibration.cosine).mean()
    wrong = (scores(20_000, 0.3, 4) >= calibration.cosine).mean()
    assert 0.03 * found / (0.03 * found + 0.97 * wrong) >= 0.8
    assert calibration.precision.low <= calibration.precision.value <= calibration.precision.high
    rare = calibrate(scores(200, 0.45, 1), scores(2000, 0.3, 2), precision=0.8, base_rate=0.01)
    assert rare.cosine >= calibration.cosine


@pytest.mark.parametrize(
    ("positives", "negatives", "wanted", "message"),
    [
        (3, 617, {"recall": 0.9}, "needs at least 16 positive pictures, got 3"),
        (100, 617, {"recall": 0.99}, "needs at least 161 positive pictures"),
        (3, 617, {"precision": 0.9}, "needs at least 8 positive pictures"),
        (20, 2, {"recall": 0.9}, "needs at least 8 negative pictures"),
        (20, 20, {}, "expected a recall or a precision, and not both"),
        (20, 20, {"recall": 0.9, "precision": 0.9}, "expected a recall or a precision, and not both"),
        (20, 20, {"recall": 90}, "between 0 and 1, got 90"),
        (20, 20, {"recall": 0.9, "base_rate": 3}, "base rate between 0 and 1"),
        (20, 20, {"precision": 0.99, "base_rate": 0.001}, "no threshold reaches a precision of 0.99.*the best is"),
    ],
)
def test_refuses_too_few_examples_and_unreachable_goals(
    positives: int, negatives: int, wanted: dict[str, float], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        calibrate(scores(positives, 0.35, 1), scores(negatives, 0.3, 2), **wanted)  # type: ignore[arg-type]


def test_states_how_well_the_scores_separate_the_classes() -> None:
    assert calibrate(scores(50, 0.9, 1), scores(50, 0.1, 2), recall=0.9).ranking == 1
    assert calibrate(scores(500, 0.3, 1), scores(500, 0.3, 2), recall=0.9).ranking == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(0, 10, 0, 0.278), (9, 10, 0.596, 0.982), (0, 0, 0, 1)])
def test_wilsons_interval(hits: int, count: int, low: float, high: float) -> None:
    interval = wilson_interval(hits, count)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))

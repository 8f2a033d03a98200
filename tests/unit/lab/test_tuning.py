"""Which settings a tuning tries, which of them it takes for the best, and what it refuses before a trial."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import tuwen
from tuwen_build.tuning import Settings, Trial
from tuwen_build.tuning._settings import layouts
from tuwen_build.tuning._tuner import best_of


def test_splits_a_cpu_in_every_way_and_shares_a_gpu() -> None:
    assert layouts(1, on_gpu=False) == [(1, 1)]
    assert layouts(6, on_gpu=False) == [(1, 6), (2, 3), (4, 1)]
    assert layouts(96, on_gpu=False) == [(1, 96), (2, 48), (4, 24), (8, 12)]
    assert layouts(96, on_gpu=True) == [(1, 0), (2, 0), (3, 0)]


def test_of_equally_fast_settings_the_quickest_for_one_caller_is_best() -> None:
    def trial(rate: float, alone: float, kind: str = "images") -> Trial:
        return Trial(kind, Settings(1, 1, 100), rate, 4.0, alone)

    slow, noise, best = trial(90, 0.01), trial(100, 0.05), trial(98, 0.02)
    assert best_of([slow, noise, best, trial(500, 0.001, "texts")], "images") is best


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "is not a built repository"),
        (("--seconds", "0"), "seconds must be more than 0"),
        (("--seconds", "inf"), "seconds must be more than 0 and finite"),
        (("--longest-wait", "nan"), "the longest wait must be more than 0 and finite"),
        (("--longest-wait", "-1"), "the longest wait must be more than 0"),
    ],
)
def test_says_what_cannot_be_tuned(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    assert message in tuwen("tune", str(tmp_path), *options, code=1).stderr

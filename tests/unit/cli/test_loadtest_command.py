"""The text that `tuwen loadtest` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tuwen_cli.loadtest import _report_text


@pytest.mark.parametrize(
    ("callers", "promised", "line"),
    [
        ((), 30.0, "capacity 40.0/s, 30.0/s meet all objectives"),
        ((2, 4), 4.0, "capacity 40.0/s, 4 concurrent callers meet all objectives"),
        ((), math.nan, "capacity 40.0/s"),  # there are no objectives
    ],
)
def test_a_ramp_ends_with_its_capacity_and_the_highest_good_load(
    callers: Sequence[int], promised: float, line: str
) -> None:
    report: Any = SimpleNamespace(
        answer=SimpleNamespace(sentence="holds 30 texts/s", reasons=["sent late"]),
        runs=[],
        curves=[SimpleNamespace(capacity=40.0, promised=promised, callers=callers)],
        findings=[],
        doubts=["sent late", "too busy"],
    )
    lines = _report_text(report, Path("folder")).splitlines()
    assert lines[0] == "holds 30 texts/s"
    assert line in lines
    assert [found for found in lines if "doubt" in found] == ["in doubt: too busy"]  # a reason is printed once

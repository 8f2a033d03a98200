"""Every single answer, kept for the report: percentiles of percentiles would be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

__all__ = ["Outcome", "Sample", "read_samples", "write_samples"]

Outcome = Literal["answered", "refused", "timed out", "failed", "unfinished"]
"""How a request ended. ``unfinished``: the run ended first, after it had waited longer than the deadline of a call."""


class Sample(NamedTuple):
    """One request.

    Attributes:
        kind: of what was asked, such as ``text``.
        due: when it was to be sent, in seconds of Unix time.
        lag: how much later than that it was sent, in seconds: what the load generator itself adds.
        seconds: from when it was due to its end.
        outcome: how it ended.
    """

    kind: str
    due: float
    lag: float
    seconds: float
    outcome: Outcome


def write_samples(samples: Iterable[Sample], path: Path) -> None:
    """As a compressed ``.npz`` with a column for each attribute."""
    columns = list(zip(*samples, strict=True)) or [()] * len(Sample._fields)
    named = {name: np.asarray(column) for name, column in zip(Sample._fields, columns, strict=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **named)


def read_samples(path: Path) -> Sequence[Sample]:
    """In the order in which they were due."""
    with np.load(path) as columns:
        rows = zip(*(columns[name].tolist() for name in Sample._fields), strict=True)
    return sorted((Sample(*row) for row in rows), key=lambda sample: sample.due)

"""The samples of a run, one for each request. All samples are kept, because percentiles cannot be merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

__all__ = ["Outcome", "Sample", "read_samples", "write_samples"]

Outcome = Literal["answered", "refused", "timed out", "failed", "unfinished"]
"""The outcome of a request. ``unfinished``: the request was still in flight when Locust ended."""


class Sample(NamedTuple):
    """The measurement of one request.

    Attributes:
        kind: the kind of the request, such as ``text``.
        due: the scheduled start, in seconds of Unix time.
        lag: the delay between the scheduled and the actual start, in seconds, which the load generator causes.
        seconds: the seconds from the scheduled start to the end of the request.
        outcome: the outcome of the request, such as ``answered``.
    """

    kind: str
    due: float
    lag: float
    seconds: float
    outcome: Outcome


def write_samples(samples: Iterable[Sample], path: Path) -> None:
    """Write samples into a compressed ``.npz`` file with a column for each attribute."""
    columns = list(zip(*samples, strict=True)) or [()] * len(Sample._fields)
    named = {name: np.asarray(column) for name, column in zip(Sample._fields, columns, strict=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **named)


def read_samples(path: Path) -> Sequence[Sample]:
    """Return the samples in a file of `write_samples`, in the order of their scheduled start."""
    with np.load(path) as columns:
        rows = zip(*(columns[name].tolist() for name in Sample._fields), strict=True)
    return sorted((Sample(*row) for row in rows), key=lambda sample: sample.due)

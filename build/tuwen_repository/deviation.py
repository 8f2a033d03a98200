"""The difference between a build and the reference."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Deviation"]


@dataclass(frozen=True)
class Deviation:
    """The difference between unit vectors and those of the reference.

    Attributes:
        max_abs: the largest difference of one component.
        distance: the largest Euclidean distance of two vectors.
        min_cosine: the smallest cosine of two vectors.
        compared: the number of compared vectors.
    """

    max_abs: float
    distance: float
    min_cosine: float
    compared: int

"""The difference between a build and the reference."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Deviation"]


@dataclass(frozen=True)
class Deviation:
    """The difference between the unit vectors of a build and the unit vectors of the reference.

    Attributes:
        max_abs: the largest difference of one component.
        distance: the largest Euclidean distance between a vector and its reference vector.
        min_cosine: the smallest cosine of a vector and its reference vector.
        compared: the number of compared vectors.
    """

    max_abs: float
    distance: float
    min_cosine: float
    compared: int

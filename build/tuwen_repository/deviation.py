"""How far a build is from the reference."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Deviation"]


@dataclass(frozen=True)
class Deviation:
    """How far unit vectors are from the reference's.

    Attributes:
        max_abs: the largest difference of one component.
        distance: the largest Euclidean distance of two vectors.
        min_cosine: the smallest cosine of two vectors.
        compared: how many vectors were compared.
    """

    max_abs: float
    distance: float
    min_cosine: float
    compared: int

"""Queries accept only valid weights, and name every part that explains a hit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tuwen_search import Query
from tuwen_search.errors import QueryError
from tuwen_search.query import Part, explained


@pytest.mark.parametrize("name", ["text_weight", "without_weight"])
@pytest.mark.parametrize("weight", [math.nan, math.inf, -0.1])
def test_an_invalid_weight_is_rejected(name: str, weight: float) -> None:
    with pytest.raises(QueryError, match="weight"):
        Query("猫", **{name: weight})  # type: ignore[arg-type]


def test_parts_of_the_same_name_are_all_kept() -> None:
    vectors = np.eye(3, dtype=np.float32)
    parts = [Part("picture", 1, vectors[0]), Part("picture", 1, vectors[1]), Part("picture", -1, vectors[2])]
    assert explained(parts, vectors[1]) == {"picture": 0, "picture (2)": 1, "picture (3)": 0}

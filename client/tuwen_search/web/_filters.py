"""The filters of the page. The metadata is kept in memory, and its values are counted under the current filters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen_search.filters import literal

__all__ = ["Choice", "Facet", "FilterTable", "Filters"]

_MOST_VALUES = 20
_MOST_FIELDS = 6
_LONGEST_VALUE = 60
_BOUND = re.compile(r"([≥≤])([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)")
_OPERATORS = {"≥": ">=", "≤": "<="}

Value: TypeAlias = "str | int | float | bool"
Mask: TypeAlias = "NDArray[np.bool_]"
Filters: TypeAlias = "Sequence[tuple[str, str]]"
"""Pairs of a field's name and the text of a value, or of a bound such as ``≥10``, as in `Address.filters`."""


@dataclass(frozen=True)
class Choice:
    """One value of a field.

    Attributes:
        text: the text of the value on the page.
        count: the number of pictures that have this value and fit the filters of all other fields. In a large
            collection, the count is an estimate from a sample.
    """

    text: str
    count: int


@dataclass(frozen=True)
class Facet:
    """One field of the metadata that filters offer: a choice among values, or a range of numbers.

    Attributes:
        field: the name of the field.
        choices: the values, the most frequent first; empty for a range.
        smallest, largest: the smallest and the largest number among the pictures that fit the filters of all other
            fields; None for a field with choices, or if no picture fits.
    """

    field: str
    choices: tuple[Choice, ...] = ()
    smallest: float | None = None
    largest: float | None = None


class FilterTable:
    """The metadata of a collection, or of a random sample of a large one.

    A field whose few values are shared by several pictures is offered as choices. A field of numbers is offered as a
    range. Other fields are not offered.

    Args:
        metadata: the metadata of each picture.
        total: the number of pictures in the collection.
    """

    def __init__(self, metadata: Sequence[Mapping[str, Any]], total: int) -> None:
        self._rows, self._total = len(metadata), total
        self._choices: dict[str, dict[str, tuple[Value, Mask]]] = {}
        self._numbers: dict[str, NDArray[np.float64]] = {}
        self._fields: list[str] = []
        for field, counts in _counted(metadata).items():
            few = 2 <= len(counts) <= min(_MOST_VALUES, sum(counts.values()) // 2)
            values = [row.get(field) for row in metadata]
            if few and max(len(str(value)) for value in counts) <= _LONGEST_VALUE:
                self._choices[field] = {
                    str(value): (value, np.array([other == value for other in values], dtype=bool))
                    for value, _ in counts.most_common()
                }
            elif len(counts) > 1 and not any(isinstance(value, (str, bool)) for value in counts):
                numbers = [value if isinstance(value, (int, float)) else np.nan for value in values]
                self._numbers[field] = np.array(numbers, np.float64)
            else:
                continue
            self._fields.append(field)
            if len(self._fields) == _MOST_FIELDS:
                break

    @property
    def estimated(self) -> bool:
        """Whether the counts are estimates from a sample."""
        return self._rows < self._total

    def where(self, filters: Filters) -> tuple[str, bool]:
        """Return the Milvus filter for some filters of the page, and whether the page offers all of them.

        A picture must have one of the values chosen for each field, and fit all bounds. Filters that the page does not
        offer are left out.
        """
        chosen: dict[str, list[str]] = {}
        bounds: list[str] = []
        known = True
        for field, text in filters:
            name = f"metadata[{literal(field)}]" if field in self._fields else ""
            if text in self._choices.get(field, {}):
                value = self._choices[field][text][0]
                written = literal(value) if isinstance(value, str) else str(value).lower()
                chosen.setdefault(field, []).append(f"{name} == {written}")
            elif field in self._numbers and (bound := _BOUND.fullmatch(text)):
                bounds.append(f"({name} {_OPERATORS[bound[1]]} {float(bound[2])})")
            else:
                known = False
        return " and ".join([*(f"({' or '.join(parts)})" for parts in chosen.values()), *bounds]), known

    def facets(self, filters: Filters) -> list[Facet]:
        """Return all fields, each with its counts or its range under the filters of the other fields."""
        found = []
        for field in self._fields:
            fits = self._fitting(filters, other_than=field)
            if field in self._numbers:
                numbers = self._numbers[field][fits]
                numbers = numbers[~np.isnan(numbers)]
                ends = (float(numbers.min()), float(numbers.max())) if numbers.size else (None, None)
                found.append(Facet(field, (), *ends))
            else:
                choices = self._choices[field].items()
                counts = [Choice(text, self._scaled(int((has & fits).sum()))) for text, (_, has) in choices]
                found.append(Facet(field, tuple(counts)))
        return found

    def _fitting(self, filters: Filters, other_than: str) -> Mask:
        fits = np.ones(self._rows, bool)
        alternatives: dict[str, Mask] = {}
        for field, text in filters:
            if field == other_than:
                continue
            if text in self._choices.get(field, {}):
                has = self._choices[field][text][1]
                alternatives[field] = alternatives[field] | has if field in alternatives else has
            elif field in self._numbers and (bound := _BOUND.fullmatch(text)):
                numbers, limit = self._numbers[field], float(bound[2])
                fits &= numbers >= limit if bound[1] == "≥" else numbers <= limit
        for has in alternatives.values():
            fits &= has
        return fits

    def _scaled(self, count: int) -> int:
        """Return a count for the whole collection. An estimate from a sample is rounded to two significant digits."""
        if not self.estimated or not count:
            return count
        return int(float(f"{count * self._total / self._rows:.1e}"))


def _counted(metadata: Sequence[Mapping[str, Any]]) -> dict[str, Counter[Value]]:
    counts: dict[str, Counter[Value]] = {}
    for row in metadata:
        for field, value in row.items():
            if isinstance(value, (str, int, float, bool)) and str(value).strip():
                counts.setdefault(field, Counter())[value] += 1
    return counts

"""Counts of the values in a collection's metadata, from which people choose a filter."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tuwen_search.errors import QueryError
from tuwen_search.filters import expanded, metadata_names
from tuwen_search.store import MilvusStore

__all__ = ["Facet", "check_names", "facets_of"]

_NAMES_SHOWN = 20
Value = str | int | float | bool


@dataclass(frozen=True)
class Facet:
    """One field of the metadata.

    Attributes:
        field: the name of the field.
        pictures: the number of pictures that have this field.
        values: the most frequent values, each with its number of pictures.
        smallest, largest: the range of the values; None if some values are not numbers.
    """

    field: str
    pictures: int
    values: tuple[tuple[Value, int], ...]
    smallest: float | None = None
    largest: float | None = None


def facets_of(store: MilvusStore, collection: str, *, where: str = "", most_values: int = 20) -> list[Facet]:
    """Return the fields of a collection's metadata, by name; reads all pictures that the filter selects.

    Args:
        where: a filter, as for `Collection.search`.
        most_values: the maximum number of values of each field.

    Raises:
        QueryError: the filter cannot be read.
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    counts: dict[str, Counter[Value]] = {}
    for row in store.every(collection, ["metadata"], where=expanded(where)):
        for name, value in row["metadata"].items():
            if isinstance(value, str | int | float):
                counts.setdefault(name, Counter())[value] += 1
    return [_facet(name, counts[name], most_values) for name in sorted(counts)]


def check_names(store: MilvusStore, collection: str, where: str) -> None:
    """Reject a filter with an unknown name: neither a field of every picture nor a field of any picture's metadata.

    Raises:
        QueryError: states the unknown name and all known names.
    """
    wanted, known = set(metadata_names(where)), set[str]()
    for row in store.every(collection, ["metadata"]) if wanted else ():
        known.update(row["metadata"])
        if wanted <= known:
            return
    if missing := sorted(wanted - known):
        there = ", ".join(sorted(known)[:_NAMES_SHOWN]) or "none"
        raise QueryError(f"invalid filter {where!r}: no picture has the metadata '{missing[0]}'; known names: {there}")


def _facet(name: str, counts: Counter[Value], most: int) -> Facet:
    numbers = [value for value in counts if isinstance(value, int | float) and not isinstance(value, bool)]
    ranged = len(numbers) == len(counts)
    return Facet(
        name,
        sum(counts.values()),
        tuple(sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:most]),
        float(min(numbers)) if ranged else None,
        float(max(numbers)) if ranged else None,
    )

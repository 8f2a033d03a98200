"""Counts of the values in a collection's metadata, which help people choose a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tuwen_search.errors import QueryError, StoreError
from tuwen_search.filters import expanded, literal, metadata_names
from tuwen_search.store import MilvusStore

__all__ = ["SAMPLE", "Facet", "check_names", "facets_of"]

SAMPLE = 8_000
"""The number of pictures whose metadata is read by default. Milvus cannot group by metadata."""
_NAMES_SHOWN = 20
Value = str | int | float | bool


@dataclass(frozen=True)
class Facet:
    """One field of the pictures' metadata, with its most frequent values.

    Attributes:
        field: the name of the field.
        pictures: the number of pictures that have this field, among the pictures that were read.
        values: pairs of a frequent value and its number of pictures, the most frequent value first.
        smallest, largest: the smallest and the largest value; None if some values are not numbers.
        read: the number of pictures that were read. If the filter selects more pictures, a random sample was read, and
            all counts and the range belong to this sample.
    """

    field: str
    pictures: int
    values: tuple[tuple[Value, int], ...]
    smallest: float | None = None
    largest: float | None = None
    read: int = 0


def facets_of(
    store: MilvusStore, collection: str, *, where: str = "", most_values: int = 20, sample: int | None = SAMPLE
) -> list[Facet]:
    """Return the fields of a collection's metadata, sorted by name.

    Args:
        where: a filter, as for `Collection.search`, which selects the pictures; empty: all pictures.
        most_values: the maximum number of values to return for each field.
        sample: the maximum number of pictures to read, at most 16,384. If the filter selects more pictures, a random
            sample is read. None: all pictures are read, which is slow for a large collection.

    Raises:
        QueryError: the filter cannot be read.
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    rows: Iterable[dict[str, Any]]
    if sample is None:
        rows = store.every(collection, ["metadata"], where=expanded(where))
    else:
        rows = store.some(collection, ["metadata"], where=where, limit=sample)
    counts: dict[str, Counter[Value]] = {}
    read = 0
    for row in rows:
        read += 1
        for name, value in row["metadata"].items():
            if isinstance(value, str | int | float):
                counts.setdefault(name, Counter())[value] += 1
    return [_facet(name, counts[name], most_values, read) for name in sorted(counts)]


def check_names(store: MilvusStore, collection: str, where: str) -> None:
    """Reject a filter with an unknown name, which is neither a field of pictures nor the name of any metadata.

    A sample of a large collection may lack a rare field. So the store is asked about a name that the sample lacks. If
    the store cannot answer, the name is accepted.

    Raises:
        QueryError: a name is unknown. The message states the unknown name and the known names.
    """
    wanted = set(metadata_names(where))
    rows = store.some(collection, ["metadata"], limit=SAMPLE) if wanted else []
    known = {name for row in rows for name in row["metadata"]}
    for name in sorted(wanted - known):
        if len(rows) < SAMPLE or not _has_field(store, collection, name):
            there = ", ".join(sorted(known)[:_NAMES_SHOWN]) or "none"
            raise QueryError(f"invalid filter {where!r}: no picture has the metadata '{name}'; known names: {there}")


def _has_field(store: MilvusStore, collection: str, name: str) -> bool:
    with suppress(StoreError, QueryError):  # not every version of Milvus knows `exists`
        return store.count(collection, f"exists metadata[{literal(name)}]") > 0
    return True


def _facet(name: str, counts: Counter[Value], most: int, read: int) -> Facet:
    numbers = [value for value in counts if isinstance(value, int | float) and not isinstance(value, bool)]
    ranged = len(numbers) == len(counts)
    return Facet(
        name,
        sum(counts.values()),
        tuple(sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:most]),
        float(min(numbers)) if ranged else None,
        float(max(numbers)) if ranged else None,
        read,
    )

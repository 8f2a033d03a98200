"""Counts of the values in a collection's metadata, from which people choose a filter."""

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
    """One field of the metadata.

    Attributes:
        field: the name of the field.
        pictures: the number of pictures that have this field, among the pictures that were read.
        values: the most frequent values, each with its number of pictures.
        smallest, largest: the range of the values; None if some values are not numbers.
        read: the number of pictures that were read. If the filter selects more, they are a random sample, and the
            counts and the range are those of the sample.
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
    """Return the fields of a collection's metadata, by name.

    Args:
        where: a filter, as for `Collection.search`.
        most_values: the maximum number of values of each field.
        sample: the maximum number of pictures to read, at most 16,384; of more pictures, a random sample is read. None:
            read all pictures, which is slow for a large collection.

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
    """Reject a filter with an unknown name: neither a field of every picture nor a field of any picture's metadata.

    A sample of a large collection may lack a rare field, so the store is asked about a name that the sample lacks. A
    store that cannot tell gets the benefit of the doubt.

    Raises:
        QueryError: states the unknown name and all known names.
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

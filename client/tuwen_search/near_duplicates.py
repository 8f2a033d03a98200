"""Groups of pictures that look the same: copies, other sizes, other file formats, small edits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuwen_search.errors import QueryError
from tuwen_search.filters import expanded
from tuwen_search.generations import current_generation
from tuwen_search.query import Hit
from tuwen_search.store import MilvusStore

__all__ = ["DuplicateGroup", "near_duplicates"]

_BLOCK = 1024


@dataclass(frozen=True)
class DuplicateGroup:
    """A group of pictures that look the same.

    Each picture has a cosine of at least the threshold with another picture of the group.

    Attributes:
        hits: the pictures, the largest file first. The score of a picture is its cosine with the first picture.
        identical: whether all files have the same bytes.
    """

    hits: tuple[Hit, ...]
    identical: bool


def near_duplicates(
    store: MilvusStore, collection: str, *, threshold: float = 0.97, where: str = ""
) -> list[DuplicateGroup]:
    """Return the groups of near-duplicates in a collection, the largest group first.

    All vectors are kept in memory, and every picture is compared with every other picture.

    Args:
        threshold: the minimum cosine of two pictures that count as near-duplicates; 1 finds exact copies only.
        where: a filter, as for `Collection.search`, which selects the pictures to compare; empty: all pictures.

    Raises:
        QueryError: the threshold is outside the range from 0 (exclusive) to 1, or the filter is invalid.
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    if not 0 < threshold <= 1:
        raise QueryError(f"expected a threshold above 0 and at most 1, got {threshold:g}")
    place = current_generation(store, collection).place
    store.load(place)
    ids: list[str] = []
    rows: list[NDArray[np.float32]] = []
    for row in store.every(place, ["vector"], where=expanded(where)):
        ids.append(row["id"])
        rows.append(np.asarray(row["vector"], np.float32))
    groups = _connected(np.stack(rows), threshold) if rows else []
    found = [_described(store, place, [ids[index] for index in group]) for group in groups]
    return sorted(found, key=lambda group: (-len(group.hits), group.hits[0].picture.name))


def _described(store: MilvusStore, place: str, ids: list[str]) -> DuplicateGroup:
    pictures = sorted(
        store.get(place, ids).values(), key=lambda pair: (-pair[0].file_size, pair[0].source, pair[0].name)
    )
    first = pictures[0][1]
    hits = tuple(Hit(picture, float(vector @ first), {}) for picture, vector in pictures)
    return DuplicateGroup(hits, len({picture.sha256 for picture, _ in pictures}) == 1)


def _connected(vectors: NDArray[np.float32], threshold: float) -> list[list[int]]:
    """Return groups of two or more vectors, as positions. Vectors whose cosine reaches the threshold share a group.

    The vectors are compared in blocks, to save memory.
    """
    group_of = list(range(len(vectors)))

    def root(index: int) -> int:
        while group_of[index] != index:
            group_of[index] = index = group_of[group_of[index]]
        return index

    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors[start:].T
        for row, column in np.argwhere(cosines >= threshold - 1e-6):
            group_of[root(start + int(row))] = root(start + int(column))
    members: dict[int, list[int]] = {}
    for index in range(len(vectors)):
        members.setdefault(root(index), []).append(index)
    return [group for group in members.values() if len(group) > 1]

"""The operations on the store that `Collection` and `AsyncCollection` share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen import EmbeddingSpaceError, ModelCard
from tuwen_search.errors import CollectionNotFoundError, QueryError
from tuwen_search.facets import Facet, check_names, facets_of
from tuwen_search.generations import Generation, current_generation, generation_for
from tuwen_search.indexing import Indexing
from tuwen_search.query import Hit, Part, Query, Results, combined, explained
from tuwen_search.records import Picture
from tuwen_search.rows import RECORD, picture_of, vector_of
from tuwen_search.sources import Source
from tuwen_search.store import IndexType, MilvusStore, Space

__all__ = ["NO_TEXTS", "StoredCollection", "open_stored"]

NO_TEXTS: tuple[NDArray[np.float32], tuple[str, ...]] = (np.empty((0, 0), np.float32), ())
"""The result of `embedded_texts` for a query without texts."""


class StoredCollection:
    """A collection without a client: it finds pictures by vectors, and leaves the embedding to its subclasses."""

    def __init__(self, generation: Generation, store: MilvusStore, *, owned: bool, created: bool = False) -> None:
        self.name, self.space, self._place = generation.collection, generation.space, generation.place
        self._generation, self._store, self._owned, self._created = generation, store, owned, created

    def _found(
        self,
        parts: Sequence[Part],
        *,
        limit: int,
        offset: int,
        where: str,
        min_score: float | None,
        truncated: tuple[str, ...],
        begun: float,
    ) -> Results:
        start = time.perf_counter()
        vector, index = combined(parts), self.space.index
        rows = self._store.nearest(
            self._place, vector, index=index, limit=limit, offset=offset, where=where, min_score=min_score
        )
        total = None
        if min_score is not None:
            total = self._store.count_nearest(self._place, vector, index=index, min_score=min_score, where=where)
        if not rows and not offset:  # an empty result may come from a misspelt name in the filter
            check_names(self._store, self._place, where)
        hits = tuple(Hit(picture, score, explained(parts, its)) for picture, score, its in rows)
        return Results(hits, start - begun, time.perf_counter() - start, truncated, total)

    def _like(self, query: Query) -> list[NDArray[np.float32]]:
        if query.like is None:
            return []
        found = self._store.get(self._place, [query.like])
        if not found:
            raise QueryError(f"like: the collection has no picture with the ID {query.like}")
        return [found[query.like][1]]

    def _check_current(self) -> None:
        """Raise an error if a migration has replaced the vectors, because nothing may be added to old vectors."""
        current = current_generation(self._store, self.name).space
        if current.generation > self.space.generation:
            where = f"'{self.name}' was migrated to {current.checkpoint}, and this server runs {self.space.checkpoint}"
            raise EmbeddingSpaceError(current.fingerprint, self.space.fingerprint, f"{where}: its vectors")

    def _indexing(self, source: Source, **options: bool) -> Indexing:
        self._check_current()
        return Indexing(self._store, self._place, source, **options)

    def _close(self) -> None:
        if self._owned:
            self._store.close()

    def _count(self, where: str) -> int:
        return self._store.count(self._place, where)

    def _get(self, picture_id: str) -> Picture | None:
        found = self._store.get(self._place, [picture_id])
        return found[picture_id][0] if found else None

    def _discard_if_new(self) -> None:
        """Remove the collection if `open` created it and it is still empty."""
        if self._created and not self._store.count(self._place):
            self._store.drop(self._place)

    def _facets(self, where: str, sample: int | None) -> list[Facet]:
        return facets_of(self._store, self._place, where=where, sample=sample)

    def _sample(self, count: int, seed: int) -> list[tuple[Picture, NDArray[np.float32]]]:
        rows = self._store.sample(self._place, count, [*RECORD, "vector"], seed=seed)
        return [(picture_of(row["id"], row), vector_of(row)) for row in rows]

    def _sample_metadata(self, count: int, seed: int) -> list[dict[str, Any]]:
        return [dict(row["metadata"]) for row in self._store.sample(self._place, count, ["metadata"], seed=seed)]

    def _browse(self, where: str, limit: int, offset: int) -> list[Picture]:
        return self._store.browse(self._place, where=where, limit=limit, offset=offset)

    def _duplicates(self) -> list[list[str]]:
        groups: dict[str, list[str]] = {}
        for row in self._store.every(self._place, ["sha256", "source", "name"]):
            groups.setdefault(row["sha256"], []).append(str(Path(row["source"], row["name"])))
        return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def open_stored(
    name: str, card: ModelCard, store: str | MilvusStore | None, create: bool, index: IndexType
) -> StoredCollection:
    place = store if isinstance(store, MilvusStore) else MilvusStore(store)
    created = False
    try:
        try:
            generation = generation_for(place, name, card)
        except CollectionNotFoundError:
            if not create:
                raise
            place.create(name, Space(card.fingerprint, card.checkpoint, card.embedding_dimension, index))
            generation, created = Generation(name, name, place.space(name)), True
        place.load(generation.place)
    except BaseException:
        if place is not store:
            place.close()
        raise
    return StoredCollection(generation, place, owned=place is not store, created=created)

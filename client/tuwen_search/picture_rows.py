"""The pictures of a collection in Milvus: write, count, read and search."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen_search.connection import MilvusConnection
from tuwen_search.errors import QueryError, StoreError
from tuwen_search.filters import any_of, checked_id, compared, expanded
from tuwen_search.records import Picture, short_hash
from tuwen_search.rows import RECORD, picture_of, row_of, vector_of
from tuwen_search.spaces import INDEXES, IndexType

__all__ = ["ROWS_AT_ONCE", "PictureRows"]

ROWS_AT_ONCE = 1_000
"""The number of rows that one call reads or removes."""
_FARTHEST = 16_384  # maximum of offset + limit that Milvus accepts
_IDS = 1 << 128  # number of possible IDs of 32 hexadecimal digits


class PictureRows(MilvusConnection):
    """The connection to one Milvus server or file, with calls that write, read and search rows of pictures."""

    def load(self, name: str) -> None:
        """Load a collection into the store's memory, which searches need."""
        with self._calling(f"load {name}"):
            self._milvus.load_collection(name, timeout=self._timeout)
        self._loaded.add(name)

    def flush(self, name: str) -> None:
        """Write added pictures to disk and into the index."""
        with self._calling(f"flush {name}"):
            self._milvus.flush(name, timeout=self._timeout)

    def put(self, name: str, pictures: Sequence[Picture], vectors: Sequence[NDArray[np.float32]]) -> None:
        """Write pictures with their vectors. A picture whose ID exists already replaces the stored picture."""
        rows = [row_of(picture, vector) for picture, vector in zip(pictures, vectors, strict=True)]
        with self._calling(f"write to {name}"):
            self._milvus.upsert(name, rows, timeout=self._timeout)

    def remove(self, name: str, ids: Sequence[str]) -> None:
        """Remove the pictures with the given IDs."""
        for start in range(0, len(ids), ROWS_AT_ONCE):
            with self._calling(f"clear {name}"):
                part = any_of("id", map(checked_id, ids[start : start + ROWS_AT_ONCE]))
                self._milvus.delete(name, filter=part, timeout=self._timeout)

    def count(self, name: str, where: str = "") -> int:
        """Return the number of all pictures, or of the pictures that a filter selects.

        Raises:
            QueryError: the filter cannot be read.
            StoreError: the store does not respond, or failed.
        """
        with self._filtering(where), self._calling(f"count {name}"):
            [row] = self._milvus.query(name, filter=expanded(where), output_fields=["count(*)"], timeout=self._timeout)
        return int(row["count(*)"])

    def sample(self, name: str, count: int, fields: Sequence[str], *, seed: int = 0) -> list[dict[str, Any]]:
        """Return some fields of random pictures.

        IDs are hashes, so the pictures with IDs in a random interval are a random sample.

        Args:
            count: the approximate number of pictures to return. A collection with fewer pictures returns all of them.
            seed: the seed of the random choice. The same seed chooses the same pictures.
        """
        total = self.count(name)
        where = ""
        if total > count:
            share = int(count / total * _IDS)
            start = random.Random(seed).randrange(_IDS - share)  # noqa: S311 - a sample is no secret
            bounds = compared("id", ">=", f"{start:032x}"), compared("id", "<", f"{start + share:032x}")
            where = " and ".join(bounds)
        with self._calling(f"read {name}"):
            rows = self._milvus.query(
                name, filter=where, limit=2 * count + 1, output_fields=["id", *fields], timeout=self._timeout
            )
        return [dict(row) for row in rows]

    def some(self, name: str, fields: Sequence[str], *, where: str = "", limit: int) -> list[dict[str, Any]]:
        """Return some fields of the pictures that a filter selects, or of a random sample of them.

        If the filter selects more pictures than the limit, the first pictures in the order of IDs are read. IDs are
        hashes, so these pictures are a random sample.

        Args:
            where: a user's filter; empty: all pictures.
            limit: the maximum number of pictures, at most 16,384.

        Raises:
            QueryError: the filter cannot be read, or the limit is too large.
            StoreError: the store does not respond, or failed.
        """
        _check_page(limit, 0)
        with self._filtering(where), self._calling(f"read {name}"):
            rows = self._milvus.query(
                name, filter=expanded(where), limit=limit, output_fields=["id", *fields], timeout=self._timeout
            )
        return [dict(row) for row in rows]

    def sources(self, name: str) -> Counter[str]:
        """Return the number of pictures of each source.

        Each step finds sources that are not known yet, and lets the store count their pictures. So the time depends on
        the number of sources, not on the number of pictures.
        """
        counts: Counter[str] = Counter()
        known: list[str] = []
        while True:
            unknown = f"not ({any_of('source_id', known)})" if known else ""
            rows = self.some(name, ["source"], where=unknown, limit=ROWS_AT_ONCE)
            for source in {row["source"] for row in rows}:
                known.append(short_hash(source))
                counts[source] = self.count(name, compared("source_id", "==", known[-1]))
            if len(rows) < ROWS_AT_ONCE:
                return counts

    def browse(self, name: str, *, where: str = "", limit: int, offset: int = 0) -> list[Picture]:
        """Return pictures that a filter selects. The order stays the same as long as the collection is unchanged.

        Raises:
            QueryError: the filter is invalid, or `offset` plus `limit` is above 16,384.
            StoreError: the store does not respond, or failed.
        """
        _check_page(limit, offset)
        with self._filtering(where), self._calling(f"read {name}"):
            rows = self._milvus.query(
                name,
                filter=expanded(where),
                limit=limit,
                offset=offset,
                output_fields=["id", *RECORD],
                timeout=self._timeout,
            )
        return [picture_of(row["id"], row) for row in rows]

    def get(self, name: str, ids: Sequence[str]) -> dict[str, tuple[Picture, NDArray[np.float32]]]:
        """Return a mapping from each ID that exists to its picture and vector.

        Raises:
            QueryError: an ID is not 32 hexadecimal digits.
            StoreError: the store does not respond, or failed.
        """
        wanted = any_of("id", map(checked_id, ids))
        if not ids:
            return {}
        with self._calling(f"read {name}"):
            rows = self._milvus.query(
                name, filter=wanted, output_fields=["id", *RECORD, "vector"], timeout=self._timeout
            )
        return {row["id"]: (picture_of(row["id"], row), vector_of(row)) for row in rows}

    def every(
        self, name: str, fields: Sequence[str], *, source: str | None = None, where: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Yield some fields of every picture of a collection, or of a part of the collection.

        Args:
            source: the source whose pictures are yielded; None: all sources.
            where: a Milvus filter that selects the pictures; empty: all pictures. At most one of the two arguments may
                be given.
        """
        wanted = where if source is None else compared("source_id", "==", short_hash(source))
        with self._filtering(where), self._calling(f"read {name}"):
            rows = self._milvus.query_iterator(
                name, batch_size=ROWS_AT_ONCE, filter=wanted, output_fields=["id", *fields], timeout=self._timeout
            )
            try:
                while batch := rows.next():
                    yield from map(dict, batch)
            finally:
                rows.close()

    def nearest(
        self,
        name: str,
        vector: NDArray[np.float32],
        *,
        index: IndexType,
        limit: int,
        offset: int = 0,
        where: str = "",
        min_score: float | None = None,
    ) -> list[tuple[Picture, float, NDArray[np.float32]]]:
        """Return the pictures whose vectors have the largest inner product with the given vector, the best first.

        Args:
            index: the index type of the collection.
            where: a Milvus filter, such as ``width > 1000 and name like "cats/%"``.
            min_score: the minimum inner product of the returned pictures; None: no minimum.

        Raises:
            QueryError: the filter is invalid, or `offset` plus `limit` is above 16,384.
            StoreError: the store does not respond, or failed.
        """
        fields = [*RECORD, "vector"]
        hits = self._search(
            name, vector, index, limit=limit, offset=offset, where=where, least=min_score, fields=fields
        )
        return [
            (picture_of(hit["id"], hit["entity"]), float(hit["distance"]), vector_of(hit["entity"])) for hit in hits
        ]

    def count_nearest(
        self,
        name: str,
        vector: NDArray[np.float32],
        *,
        index: IndexType,
        min_score: float,
        where: str = "",
        limit: int = 1000,
    ) -> int:
        """Return the number of pictures whose inner product with a vector is at least `min_score`, up to a limit.

        Raises:
            QueryError: the filter cannot be read.
            StoreError: the store does not respond, or failed.
        """
        return len(self._search(name, vector, index, limit=limit, offset=0, where=where, least=min_score, fields=[]))

    def _search(
        self,
        name: str,
        vector: NDArray[np.float32],
        index: IndexType,
        *,
        limit: int,
        offset: int,
        where: str,
        least: float | None,
        fields: list[str],
    ) -> list[dict[str, Any]]:
        _check_page(limit, offset)
        searched: dict[str, float] = dict(INDEXES[index][1])
        if index == "hnsw":
            searched["ef"] = max(searched["ef"], limit + offset)
        if least is not None:
            searched["radius"] = float(least)
        with self._filtering(where), self._calling(f"search {name}"):
            [hits] = self._milvus.search(
                name,
                [vector.tolist()],
                filter=expanded(where),
                limit=limit,
                search_params={"params": searched, "offset": offset},
                output_fields=fields,
                timeout=self._timeout,
            )
        return list(hits)

    @contextlib.contextmanager
    def _filtering(self, where: str) -> Iterator[None]:
        """Turn an error of Milvus about the user's filter into a `QueryError`."""
        try:
            yield
        except StoreError as error:
            if where and _about_filter(str(error)):
                raise QueryError(f"invalid filter {where!r}: {error}") from error
            raise


def _check_page(limit: int, offset: int) -> None:
    if limit < 1 or offset < 0 or limit + offset > _FARTHEST:
        raise QueryError(
            f"expected limit >= 1, offset >= 0 and offset + limit <= {_FARTHEST:,}, got limit={limit} and "
            f"offset={offset}"
        )


def _about_filter(message: str) -> bool:
    return any(word in message for word in ("expression", "parse", "field", "filter", "at column"))

"""A collection of pictures and the `tuwen.Client` that embeds for it."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tuwen import Client
from tuwen_search.errors import StoreError
from tuwen_search.facets import SAMPLE, Facet
from tuwen_search.indexing import Report
from tuwen_search.query import Query, Results, embedded_texts, parts_of
from tuwen_search.records import Picture
from tuwen_search.sources import Source, open_source
from tuwen_search.store import IndexType, MilvusStore
from tuwen_search.stored_collection import NO_TEXTS, StoredCollection, open_stored

__all__ = ["Collection"]


class Collection(StoredCollection):
    """A collection of pictures for search. Use `open` to get a collection, in a ``with`` block that closes it.

    Attributes:
        name: the name of the collection.
        space: the embedding space of its vectors.
    """

    def __init__(self, kept: StoredCollection, client: Client) -> None:
        super().__init__(kept._generation, kept._store, owned=kept._owned, created=kept._created)
        self._client = client

    @classmethod
    def open(
        cls,
        name: str,
        client: Client,
        *,
        store: str | MilvusStore | None = None,
        create: bool = False,
        index: IndexType = "auto",
    ) -> Collection:
        """Open a collection for searches with the model of the client's server.

        Args:
            name: the name of the collection, of letters, digits and ``_``.
            client: the client of the embedding server. The collection does not close the client.
            store: the address of a Milvus server, such as ``http://host:19530``; a file that ends in ``.db``; or an
                open store, which the collection does not close. Default: `default_store`.
            create: whether to create an empty collection if the collection does not exist.
            index: the index type of a new collection.

        Raises:
            CollectionNotFoundError: the collection does not exist, and `create` is False.
            EmbeddingSpaceError: the collection has no vectors of the server's model.
            QueryError: the name or the address is invalid.
            StoreError: the store does not respond, or its file is in use.
            ServerError: the embedding server or the connection failed.
        """
        return cls(open_stored(name, client.model_card(), store, create, index), client)

    def search(
        self,
        query: Query | str,
        *,
        limit: int = 10,
        offset: int = 0,
        where: str = "",
        min_score: float | None = None,
        timeout: float | None = None,
    ) -> Results:
        """Return the pictures that fit the query best.

        Args:
            query: a text or a `Query`.
            limit: the number of pictures to return.
            offset: the number of pictures to skip, the best first.
            where: a Milvus filter over ``name``, ``source``, ``file_size``, ``width``, ``height``, ``sha256``
                and the names of metadata, such as ``width > 1000 and year == 2024``.
            min_score: the minimum score of the returned pictures; None: pictures with any score are returned.
            timeout: the maximum time in seconds to embed the query; None: the client's timeout.

        Raises:
            QueryError: the query is empty, the filter is invalid, or `offset` plus `limit` is too large.
            InvalidItemsError: the picture of the query cannot be decoded.
            StoreError, ServerError: the store or the embedding server failed.
        """
        query = query if isinstance(query, Query) else Query(query)
        start = time.perf_counter()
        pictures = self._like(query)
        if query.image is not None:
            pictures.append(self._client.embed_images([query.image], timeout=timeout)[0])
        texts, truncated = NO_TEXTS
        if query.texts:
            texts, truncated = embedded_texts(self._client.try_embed_texts(query.texts, timeout=timeout))
        return self._found(
            parts_of(query, texts, pictures),
            limit=limit,
            offset=offset,
            where=where,
            min_score=min_score,
            truncated=truncated,
            begun=start,
        )

    def add(
        self,
        source: Path | str | Source,
        *,
        progress: bool = False,
        keep_removed: bool = False,
        confirm_removal: bool = False,
    ) -> Report:
        """Update the collection from a source: embed new and changed pictures, and remove missing ones.

        The next run resumes an interrupted run. A broken picture is skipped, and the report lists it as a failure. A
        part of the source that cannot be read, such as the rest of a damaged archive, is a failure, too. The pictures
        of this part stay in the collection.

        Args:
            source: a folder, a text file that lists pictures, a table (``.parquet``, ``.csv``, ``.tsv``, ``.jsonl``), a
                tar archive (``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.zst``), or a `Source`. All paths of one folder or
                file are one source.
            progress: whether to show a progress bar on standard error, if standard error is a terminal.
            keep_removed: whether pictures that are no longer in the source stay in the collection.
            confirm_removal: whether all pictures of a source that is empty now are removed from the collection. By
                default, an empty source is a failure, because a disk that is not mounted looks empty, too.

        Raises:
            SourceError: the source cannot be read.
            DiskFullError: the disk has too little free space for the new pictures. Nothing was embedded.
            EmbeddingSpaceError: the collection was migrated to another model than the server's.
            StoreError, ServerError: the store or the embedding server failed. Finished work is kept.
        """
        source = source if isinstance(source, Source) else open_source(Path(source))
        work = self._indexing(source, keep_removed=keep_removed, confirm_removal=confirm_removal)
        hidden = None if progress else True  # None: hidden unless standard error is a terminal
        try:
            total = work.prepare(self.space.dimension, counted=progress)
            with tqdm(total=total, unit=" items", disable=hidden, smoothing=0.05) as bar:
                for outcome in self._client.stream_images(work.wanted()):
                    work.take(outcome)
                    bar.update()
            work.finish()
        finally:
            work.close()
        return work.report

    def get(self, picture_id: str) -> Picture | None:
        """Return a picture by its ID; None if the collection has no such picture.

        Raises:
            QueryError: the ID is not 32 hexadecimal digits.
        """
        return self._get(picture_id)

    def count(self, where: str = "") -> int:
        """Return the number of all pictures, or of the pictures that a filter selects.

        Args:
            where: a filter, as for `search`; empty: all pictures.
        """
        return self._count(where)

    def sample(self, count: int, *, seed: int = 0) -> list[tuple[Picture, NDArray[np.float32]]]:
        """Return random pictures and their vectors, as examples of the collection's content.

        Args:
            count: the approximate number of pictures to return. A collection with fewer pictures returns all of them.
            seed: the seed of the random choice. The same seed chooses the same pictures.
        """
        return self._sample(count, seed)

    def sample_metadata(self, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
        """Return the metadata of random pictures, from which a program can choose filters to offer.

        Args:
            count: the approximate number of pictures to read, at most 8,000. A smaller collection is read completely.
            seed: the seed of the random choice. The same seed chooses the same pictures.
        """
        return self._sample_metadata(count, seed)

    def browse(self, where: str = "", *, limit: int = 10, offset: int = 0) -> list[Picture]:
        """Return the pictures that a filter selects, without a search. The order stays the same between calls.

        Args:
            where: a filter, as for `search`; empty: all pictures.
            limit: the number of pictures to return.
            offset: the number of pictures to skip.

        Raises:
            QueryError: the filter is invalid, or `offset` plus `limit` is too large.
        """
        return self._browse(where, limit, offset)

    def facets(self, where: str = "", *, sample: int | None = SAMPLE) -> list[Facet]:
        """Return the fields of the pictures' metadata, with counts of the frequent values.

        Args:
            where: a filter, as for `search`; empty: all pictures.
            sample: the maximum number of pictures to read, at most 16,384. If the filter selects more pictures, a
                random sample is read, and `Facet.read` is its size. None: all pictures are read, which is slow for a
                large collection.

        Raises:
            QueryError: the filter cannot be read.
        """
        return self._facets(where, sample)

    def duplicates(self) -> list[list[str]]:
        """Return groups of paths whose files are equal byte for byte."""
        return self._duplicates()

    def close(self) -> None:
        """Close the store, unless it was passed to `open`. The client stays open."""
        self._close()

    def __enter__(self) -> Collection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:  # a failed run leaves no empty collection
                with suppress(StoreError):  # the earlier error says more than an error of this call
                    self._discard_if_new()
        finally:
            self.close()

"""A collection of pictures and the client that embeds for it: `tuwen.Client` or `tuwen.AsyncClient`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tuwen import AsyncClient, Client, EmbeddingSpaceError, ImageInput, ModelCard
from tuwen_search.errors import CollectionNotFoundError, QueryError, StoreError
from tuwen_search.facets import Facet, check_names, facets_of
from tuwen_search.generations import Generation, current_generation, generation_for
from tuwen_search.indexing import Indexing, Report
from tuwen_search.query import Hit, Part, Query, Results, combined, embedded_texts, explained, parts_of
from tuwen_search.records import Picture
from tuwen_search.rows import RECORD, picture_of, vector_of
from tuwen_search.sources import Source, open_source
from tuwen_search.store import IndexType, MilvusStore, Space

__all__ = ["AsyncCollection", "Collection", "Results"]


class _Kept:
    """The operations on the store that `Collection` and `AsyncCollection` share."""

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
        if not rows and not offset:  # a misspelt name of metadata selects nothing
            check_names(self._store, self._place, where)
        hits = tuple(Hit(picture, score, explained(parts, its)) for picture, score, its in rows)
        return Results(hits, start - begun, time.perf_counter() - start, truncated, total)

    def _like(self, query: Query) -> list[NDArray[np.float32]]:
        if query.like is None:
            return []
        found = self._store.get(self._place, [query.like])
        if not found:
            raise QueryError(f"the collection has no picture {query.like}")
        return [found[query.like][1]]

    def _check_current(self) -> None:
        """Refuse to write to vectors that a migration has replaced."""
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
        """Remove the collection if it was created here and is still empty."""
        if self._created and not self._store.count(self._place):
            self._store.drop(self._place)

    def _facets(self, where: str) -> list[Facet]:
        return facets_of(self._store, self._place, where=where)

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


def _opened(name: str, card: ModelCard, store: str | MilvusStore | None, create: bool, index: IndexType) -> _Kept:
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
    return _Kept(generation, place, owned=place is not store, created=created)


class Collection(_Kept):
    """A collection of pictures for search, returned by `open`. A context manager.

    Attributes:
        name: the name of the collection.
        space: the embedding space of its vectors.
    """

    def __init__(self, kept: _Kept, client: Client) -> None:
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
        """Return a collection whose vectors are of the same model as the client's server.

        Args:
            name: letters, digits and ``_``.
            client: a client, which the collection does not close.
            store: the address of a Milvus server, such as ``http://host:19530``; a file that ends in ``.db``; or an
                open store, which the collection does not close. Default: `default_store`.
            create: create an empty collection if it does not exist.
            index: the index type of a new collection.

        Raises:
            CollectionNotFoundError: the collection does not exist, and `create` is off.
            EmbeddingSpaceError: the collection has no vectors of the server's model.
            QueryError: the name or the address is invalid.
            StoreError: the store does not respond, or its file is in use.
            ServerError: the embedding server or the connection failed.
        """
        return cls(_opened(name, client.model_card(), store, create, index), client)

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
            min_score: return only pictures with at least this score. None: return the best pictures, whatever their
                scores are.
            timeout: seconds for the embedding.

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
        texts, truncated = _NO_TEXTS
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

        The next run resumes an interrupted one. A broken picture is skipped, and the report lists it as a failure. A
        part of the source that cannot be read, such as the rest of a damaged archive, is a failure too; its pictures
        stay in the collection.

        Args:
            source: a folder, a text file that lists pictures, a table (``.parquet``, ``.csv``, ``.tsv``, ``.jsonl``), a
                tar archive (``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.zst``), or a `Source`. All paths of one folder or
                file are one source.
            progress: show a bar on standard error, if that is a terminal.
            keep_removed: keep pictures that the source no longer has.
            confirm_removal: if the source has no pictures any more, remove all its pictures from the collection.
                Without this option, such a source is a failure, because a disk that is not mounted looks the same.

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
        """Return the number of all pictures, or of the pictures that a filter selects; see `search`."""
        return self._count(where)

    def sample(self, count: int, *, seed: int = 0) -> list[tuple[Picture, NDArray[np.float32]]]:
        """Return random pictures and their vectors, as examples of the collection's content.

        Args:
            count: the number of pictures. A sample of a larger collection has a few more or fewer.
            seed: another seed chooses other pictures.
        """
        return self._sample(count, seed)

    def sample_metadata(self, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
        """Return the metadata of pictures that are chosen at random, to show which filters make sense.

        Args:
            count: the number of pictures, at most 8,000; see `sample`.
            seed: another seed chooses other pictures.
        """
        return self._sample_metadata(count, seed)

    def browse(self, where: str = "", *, limit: int = 10, offset: int = 0) -> list[Picture]:
        """Return the pictures that a filter selects, without a search, in an order that stays the same.

        Args:
            where: a filter, as for `search`; empty: all pictures.
            limit: the number of pictures to return.
            offset: the number of pictures to skip.

        Raises:
            QueryError: the filter is invalid, or `offset` plus `limit` is too large.
        """
        return self._browse(where, limit, offset)

    def facets(self, where: str = "") -> list[Facet]:
        """Return the fields of the pictures' metadata, with their values counted; reads the metadata of all pictures.

        Args:
            where: a filter, as for `search`.

        Raises:
            QueryError: the filter cannot be read.
        """
        return self._facets(where)

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
                with suppress(StoreError):  # the first error says more
                    self._discard_if_new()
        finally:
            self.close()


class AsyncCollection(_Kept):
    """A `Collection` for programs with an event loop. Calls of the store run in threads."""

    def __init__(self, kept: _Kept, client: AsyncClient) -> None:
        super().__init__(kept._generation, kept._store, owned=kept._owned, created=kept._created)
        self._client = client

    @classmethod
    async def open(
        cls,
        name: str,
        client: AsyncClient,
        *,
        store: str | MilvusStore | None = None,
        create: bool = False,
        index: IndexType = "auto",
    ) -> AsyncCollection:
        """See `Collection.open`."""
        card = await client.model_card()
        opening = asyncio.create_task(asyncio.to_thread(_opened, name, card, store, create, index))
        try:
            return cls(await asyncio.shield(opening), client)
        except asyncio.CancelledError:  # a thread cannot be cancelled: what it opens is closed
            await asyncio.wait({opening})
            if not opening.cancelled() and opening.exception() is None:
                await asyncio.to_thread(opening.result()._close)
            raise

    async def search(
        self,
        query: Query | str,
        *,
        limit: int = 10,
        offset: int = 0,
        where: str = "",
        min_score: float | None = None,
        timeout: float | None = None,
    ) -> Results:
        """See `Collection.search`."""
        query = query if isinstance(query, Query) else Query(query)
        start = time.perf_counter()
        pictures = await asyncio.to_thread(self._like, query)
        images: list[ImageInput] = [] if query.image is None else [query.image]
        if images:
            pictures.extend(await self._client.embed_images(images, timeout=timeout))
        texts, truncated = _NO_TEXTS
        if query.texts:
            texts, truncated = embedded_texts(await self._client.try_embed_texts(query.texts, timeout=timeout))
        return await asyncio.to_thread(
            self._found,
            parts_of(query, texts, pictures),
            limit=limit,
            offset=offset,
            where=where,
            min_score=min_score,
            truncated=truncated,
            begun=start,
        )

    async def add(
        self, source: Path | str | Source, *, keep_removed: bool = False, confirm_removal: bool = False
    ) -> Report:
        """See `Collection.add`."""
        source = source if isinstance(source, Source) else await asyncio.to_thread(open_source, Path(source))
        options = {"keep_removed": keep_removed, "confirm_removal": confirm_removal}
        work = await asyncio.to_thread(self._indexing, source, **options)
        wanted, reading = work.wanted(), threading.Lock()

        def read() -> tuple[str, bytes] | None:
            with reading:
                return next(wanted, None)

        async def read_each() -> AsyncIterator[tuple[str, bytes]]:
            while (item := await asyncio.to_thread(read)) is not None:
                yield item

        def close() -> None:
            with reading:  # a thread that reads cannot be cancelled
                work.close()

        try:
            await asyncio.to_thread(work.prepare, self.space.dimension)
            async with aclosing(self._client.stream_images(read_each())) as outcomes:
                async for outcome in outcomes:
                    await asyncio.to_thread(work.take, outcome)
            await asyncio.to_thread(work.finish)
        finally:
            await asyncio.to_thread(close)
        return work.report

    async def get(self, picture_id: str) -> Picture | None:
        """See `Collection.get`."""
        return await asyncio.to_thread(self._get, picture_id)

    async def count(self, where: str = "") -> int:
        """See `Collection.count`."""
        return await asyncio.to_thread(self._count, where)

    async def sample(self, count: int, *, seed: int = 0) -> list[tuple[Picture, NDArray[np.float32]]]:
        """See `Collection.sample`."""
        return await asyncio.to_thread(self._sample, count, seed)

    async def sample_metadata(self, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
        """See `Collection.sample_metadata`."""
        return await asyncio.to_thread(self._sample_metadata, count, seed)

    async def browse(self, where: str = "", *, limit: int = 10, offset: int = 0) -> list[Picture]:
        """See `Collection.browse`."""
        return await asyncio.to_thread(self._browse, where, limit, offset)

    async def facets(self, where: str = "") -> list[Facet]:
        """See `Collection.facets`."""
        return await asyncio.to_thread(self._facets, where)

    async def duplicates(self) -> list[list[str]]:
        """See `Collection.duplicates`."""
        return await asyncio.to_thread(self._duplicates)

    async def close(self) -> None:
        """See `Collection.close`."""
        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> AsyncCollection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                with suppress(StoreError):
                    await asyncio.to_thread(self._discard_if_new)
        finally:
            await self.close()


_NO_TEXTS: tuple[NDArray[np.float32], tuple[str, ...]] = (np.empty((0, 0), np.float32), ())

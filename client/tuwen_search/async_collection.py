"""A collection of pictures and the `tuwen.AsyncClient` that embeds for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen import AsyncClient, ImageInput
from tuwen_search.errors import StoreError
from tuwen_search.facets import SAMPLE, Facet
from tuwen_search.indexing import Report
from tuwen_search.query import Query, Results, embedded_texts, parts_of
from tuwen_search.records import Picture
from tuwen_search.sources import Source, open_source
from tuwen_search.store import IndexType, MilvusStore
from tuwen_search.stored_collection import NO_TEXTS, StoredCollection, open_stored

__all__ = ["AsyncCollection"]


class AsyncCollection(StoredCollection):
    """A `Collection` for programs with an event loop. Calls of the Milvus store run in threads."""

    def __init__(self, kept: StoredCollection, client: AsyncClient) -> None:
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
        """Open a collection for searches with the model of the client's server; see `Collection.open`."""
        card = await client.model_card()
        opening = asyncio.create_task(asyncio.to_thread(open_stored, name, card, store, create, index))
        try:
            return cls(await asyncio.shield(opening), client)
        except asyncio.CancelledError:  # The thread cannot be cancelled, so wait for it and close the collection.
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
        """Return the pictures that fit the query best; see `Collection.search` for the arguments and the errors."""
        query = query if isinstance(query, Query) else Query(query)
        start = time.perf_counter()
        pictures = await asyncio.to_thread(self._like, query)
        images: list[ImageInput] = [] if query.image is None else [query.image]
        if images:
            pictures.extend(await self._client.embed_images(images, timeout=timeout))
        texts, truncated = NO_TEXTS
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
        """Update the collection from a source; see `Collection.add` for the arguments and the errors."""
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
            with reading:  # wait for the thread that reads, because it cannot be cancelled
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
        """Return a picture by its ID; None if the collection has no such picture."""
        return await asyncio.to_thread(self._get, picture_id)

    async def count(self, where: str = "") -> int:
        """Return the number of all pictures, or of the pictures that a filter selects."""
        return await asyncio.to_thread(self._count, where)

    async def sample(self, count: int, *, seed: int = 0) -> list[tuple[Picture, NDArray[np.float32]]]:
        """Return random pictures and their vectors; see `Collection.sample` for the arguments."""
        return await asyncio.to_thread(self._sample, count, seed)

    async def sample_metadata(self, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
        """Return the metadata of random pictures; see `Collection.sample_metadata` for the arguments."""
        return await asyncio.to_thread(self._sample_metadata, count, seed)

    async def browse(self, where: str = "", *, limit: int = 10, offset: int = 0) -> list[Picture]:
        """Return the pictures that a filter selects, without a search; see `Collection.browse` for the arguments."""
        return await asyncio.to_thread(self._browse, where, limit, offset)

    async def facets(self, where: str = "", *, sample: int | None = SAMPLE) -> list[Facet]:
        """Return the fields of the pictures' metadata, with counts of the frequent values; see `Collection.facets`."""
        return await asyncio.to_thread(self._facets, where, sample)

    async def duplicates(self) -> list[list[str]]:
        """Return groups of paths whose files are equal byte for byte."""
        return await asyncio.to_thread(self._duplicates)

    async def close(self) -> None:
        """Close the store, unless it was passed to `open`. The client stays open."""
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

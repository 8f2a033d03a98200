"""The feeds of requests for both clients: reading the items of a call or stream, and cancelling requests.

Only here are the synchronous and the asynchronous code written separately. The synchronous client and pipeline are
generated from the asynchronous ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, cast

from tuwen._requests import Chunker, EmbeddingBatch, Part
from tuwen._routes import Threads
from tuwen._transport import AsyncPendingResponse, PendingResponse

__all__ = ["AsyncFeed", "Feed", "async_cancel_all", "cancel_all"]

# Seconds. If a source pauses for longer, its items so far are sent, although the request is not full.
_LINGER = 0.02
_TURN = 64  # the number of items of a source after which other tasks of the event loop may run


class Feed:
    """The requests of a call or stream. Each request is made when the window has room for it.

    Args:
        items: the parts of a call, or the items of a stream.
        build: a function that returns the request of a part; it may read files.
        chunker: the chunker that gathers the items of a stream into parts; None: the items are parts.
        threads: no effect, because the caller's thread makes the requests. `AsyncFeed` uses this argument.
    """

    def __init__(
        self,
        items: Iterable[Any],
        build: Callable[[Part], EmbeddingBatch],
        *,
        chunker: Chunker | None = None,
        threads: Threads | None = None,  # noqa: ARG002
    ) -> None:
        self._parts: Iterator[Part] = iter(items) if chunker is None else _gathered(items, chunker)
        self._build = build

    def has_next(self, first: PendingResponse | None) -> bool:  # noqa: ARG002
        """Return True, so that the caller takes the next part even if the caller must wait for the source.

        A thread cannot wait for the source and for a response at the same time.
        """
        return True

    def next(self) -> tuple[Part, EmbeddingBatch] | None:
        """Return the next part and its request; None after the last part.

        Raises:
            Exception: the source or `build` failed. Items that the source gave before its error are returned first.
        """
        part = next(self._parts, None)
        return None if part is None else (part, self._build(part))

    def close(self) -> None:
        """Stop reading the source."""
        self._parts = iter(())


def _gathered(items: Iterable[Any], chunker: Chunker) -> Iterator[Part]:
    try:
        for item in items:
            if part := chunker.add(item):
                yield part
    except Exception:
        if part := chunker.rest():
            yield part
        raise
    if part := chunker.rest():
        yield part


def cancel_all(responses: Iterable[PendingResponse]) -> None:
    """Cancel the requests in flight."""
    for response in responses:
        response.cancel()


class AsyncFeed:
    """The requests of a call or stream. Each request is made when the window has room for it.

    One task iterates over the source of a stream from beginning to end. It gathers one part ahead.

    Args:
        items: the parts of a call, or the items of a stream.
        build: a function that returns the request of a part; it may read files.
        chunker: the chunker that gathers the items of a stream into parts; None: the items are parts.
        threads: the threads that call `build`, so that it does not block the event loop; None: the event loop's thread.
    """

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        build: Callable[[Part], EmbeddingBatch],
        *,
        chunker: Chunker | None = None,
        threads: Threads | None = None,
    ) -> None:
        self._build = build
        self._threads = threads
        self._source = _Source(items, chunker) if chunker else None
        self._parts: Iterator[Part] = iter(()) if chunker else iter(cast("Iterable[Part]", items))

    async def has_next(self, first: AsyncPendingResponse | None) -> bool:
        """Return whether the next part is ready or the source has ended.

        If a response is pending, first wait until a part is ready, the source has ended or the response has arrived.
        Waiting for the source alone could last for ever, because a source may wait for the outcomes of earlier items.

        Args:
            first: the oldest pending response; None: the method does not wait.
        """
        return self._source is None or (self._source.is_ready if first is None else await self._source.wait(first))

    async def next(self) -> tuple[Part, EmbeddingBatch] | None:
        """Return the next part and its request; None after the last part.

        Raises:
            ClientClosedError: the client was closed meanwhile.
            Exception: the source or `build` failed. Items that the source gave before its error are returned first.
        """
        part = await self._source.next() if self._source else next(self._parts, None)
        if part is None:
            return None
        return part, await self._threads.run(self._build, part) if self._threads else self._build(part)

    async def close(self) -> None:
        """Stop reading the source."""
        if self._source is not None:
            await self._source.close()


class _Source:
    """A task that gathers the items of a stream into parts."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any], chunker: Chunker) -> None:
        self._items = items
        self._chunker = chunker
        self._part: Part | None = None  # waits to be taken
        self._ended = False
        self._changed = asyncio.Event()
        # Cleared while a part waits to be taken, because responses until then decide the size of the next part.
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._reader = asyncio.create_task(self._read())

    @property
    def is_ready(self) -> bool:
        """Whether a part is ready, or the source has ended."""
        return self._part is not None or self._ended

    async def wait(self, response: AsyncPendingResponse | None = None) -> bool:
        """Wait until a part is ready, the source has ended or the response has arrived. Return `is_ready`."""
        if response is not None:
            response.when_done(self._changed.set)
        while not self.is_ready and not (response and response.done()):
            self._changed.clear()
            await self._changed.wait()
        return self.is_ready

    async def next(self) -> Part | None:
        await self.wait()
        part, self._part = self._part, None
        if part is None:
            await self._reader  # raises the error of the source
        self._wanted.set()
        return part

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        loop, timer, count = asyncio.get_running_loop(), None, 0
        try:
            async for item in _each(self._items):
                count += 1
                if count % _TURN == 0:  # lets other tasks run: no other line waits while items are skipped
                    await asyncio.sleep(0)
                await self._wanted.wait()
                self._hand_over(self._chunker.add(item))
                if timer is not None:
                    timer.cancel()
                timer = loop.call_later(_LINGER, lambda: self._hand_over(self._chunker.rest()))
        finally:
            if timer is not None:
                timer.cancel()
            self._hand_over(self._chunker.rest())
            self._ended = True
            self._changed.set()

    def _hand_over(self, part: Part | None) -> None:
        if part is not None:
            self._part = part
            self._wanted.clear()
            self._changed.set()


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def async_cancel_all(responses: Iterable[AsyncPendingResponse]) -> None:
    """Cancel the requests in flight, and wait until they have ended."""
    unfinished = list(responses)
    for response in unfinished:
        response.cancel()
    for response in unfinished:
        await response.ended()

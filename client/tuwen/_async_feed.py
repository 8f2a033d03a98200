"""What waits differently for asyncio than for threads: the source of items, and requests that are given up.

`tuwen._feed` is its twin. Everything between the two and the client is one text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, cast

from tuwen._errors import ClientClosedError
from tuwen._requests import Chunker, EmbeddingBatch, Part
from tuwen._routes import Threads
from tuwen._transport import AsyncPendingResponse

__all__ = ["AsyncFeed", "cancel_all"]

# Seconds. What a source gave before it paused for longer is sent, so that nobody waits for a request to fill.
_LINGER = 0.02
_TURN = 64  # items of a source between two turns for the other tasks of the event loop


class AsyncFeed:
    """The requests of a call or stream, each of which is made when there is room for it.

    The source of a stream is iterated by one task from beginning to end, which gathers one part ahead.

    Args:
        items: the parts of a call, or the items of a stream.
        build: makes the request of a part; may read files.
        chunker: gathers the items of a stream into parts; None: they are parts.
        threads: make the requests, so that the event loop runs on; None: `build` takes no time.
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
        self._parts = _Gathered(items, chunker) if chunker else _Listed(cast("Iterable[Part]", items))

    async def has_next(self, first: AsyncPendingResponse | None) -> bool:
        """Wait for the next part or for the first response; return whether the part is there, or the source has ended.

        A source may wait for the outcomes of its earlier items.

        Args:
            first: the response to the request that was sent first; None: nothing was sent for it.
        """
        return await self._parts.is_ready_before(first)

    async def next(self) -> tuple[Part, EmbeddingBatch] | None:
        """Return the next part and its request; None after the last one.

        Raises:
            ClientClosedError: the client was closed meanwhile.
            Exception: what the source or `build` raises. The items before an error of the source come first.
        """
        part = await self._parts.next()
        if part is None:
            return None
        if self._threads is None:
            return part, self._build(part)
        work = asyncio.get_running_loop().run_in_executor(self._threads.pool(), self._build, part)
        try:
            return part, await work
        except asyncio.CancelledError:
            # `Threads.close` cancels what waits for a thread; cancelling the caller's task cancels this future as well
            if self._threads.closed and work.cancelled():
                raise ClientClosedError from None
            raise

    async def close(self) -> None:
        """End the reading of the source."""
        await self._parts.close()


class _Listed:
    """The parts of a call."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = iter(parts)

    async def is_ready_before(self, _: AsyncPendingResponse | None) -> bool:
        return True

    async def next(self) -> Part | None:
        return next(self._parts, None)

    async def close(self) -> None:
        return


class _Gathered:
    """The parts that a task gathers from the source of a stream."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any], chunker: Chunker) -> None:
        self._items = items
        self._chunker = chunker
        self._part: Part | None = None
        self._ready = asyncio.Event()  # a part waits to be taken, or the source has ended
        # Cleared while a part waits to be taken: the size of the next part depends on the answers until then.
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._reader = asyncio.create_task(self._read())

    async def is_ready_before(self, first: AsyncPendingResponse | None) -> bool:
        if first is not None and not self._ready.is_set():
            waiting = [asyncio.create_task(self._ready.wait()), asyncio.create_task(first.ended())]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
        return self._ready.is_set()

    async def next(self) -> Part | None:
        await self._ready.wait()
        part, self._part = self._part, None
        if part is None:
            await self._reader  # raises what the source raised
        elif not self._reader.done():
            self._ready.clear()
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
                if count % _TURN == 0:  # nothing below waits while items are skipped
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
            self._ready.set()

    def _hand_over(self, part: Part | None) -> None:
        if part is not None:
            self._part = part
            self._wanted.clear()
            self._ready.set()


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def cancel_all(responses: Iterable[AsyncPendingResponse]) -> None:
    """Give up on responses that are on their way, and wait until their requests have ended."""
    unfinished = list(responses)
    for response in unfinished:
        response.cancel()
    for response in unfinished:
        await response.ended()

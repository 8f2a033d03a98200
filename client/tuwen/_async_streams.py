"""The pipeline of an asynchronous stream: items are gathered and sent by tasks, results are handed out in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeAlias, TypeVar

from tuwen._pace import Pace
from tuwen._streams import Chunk, Chunker

__all__ = ["Sent", "cancelled", "in_order"]

# Seconds. What a source gave before it paused for longer is sent, so that nobody waits for a request to fill.
_LINGER = 0.02
_TURN = 64  # items of a source between two turns for the other tasks of the event loop

Request = TypeVar("Request")
Response = TypeVar("Response")
Sent: TypeAlias = tuple[Request, "asyncio.Task[Response] | None"]
"""What was sent for a chunk, and the response on its way; None: there was nothing to send."""


async def in_order(
    items: Iterable[Any] | AsyncIterable[Any],
    chunker: Chunker,
    window: int,
    send: Callable[[Chunk, int], Awaitable[Sent[Request, Response]]],
) -> AsyncGenerator[tuple[Chunk, Request, Response | None], None]:
    """Send items chunk by chunk, at most `window` of them at once, and give what came back, in order.

    The source is iterated by one task from beginning to end. When the source raises, or `send` does, everything before
    that is given first. Closing the iterator cancels what is on its way.

    Args:
        items: the source.
        chunker: makes chunks of the items, and knows how many requests may be on their way.
        window: the most items between the source and the consumer.
        send: gets a chunk, and the number of requests that are unanswered.
    """
    source = _Source(items, chunker, window)
    sent: asyncio.Queue[tuple[Chunk, Request, asyncio.Task[Response] | None] | None] = asyncio.Queue()
    on_the_way: set[asyncio.Task[Response]] = set()

    async def send_each() -> None:
        try:
            while (chunk := await source.chunks.get()) is not None:
                ahead = await _unanswered(on_the_way, chunker.pace)
                source.ask_for_next()
                request, response = await send(chunk, ahead)
                if response is not None:
                    on_the_way.add(response)
                sent.put_nowait((chunk, request, response))
        finally:
            sent.put_nowait(None)

    tasks = [asyncio.create_task(source.read()), asyncio.create_task(send_each())]
    try:
        while (first := await sent.get()) is not None:
            chunk, request, response = first
            answer = await response if response is not None else None
            on_the_way -= {response}
            source.finished(chunk)
            yield chunk, request, answer
        for task in reversed(tasks):  # an item that could not be sent leaves the reader waiting for room
            await task
    finally:
        await cancelled([*tasks, *on_the_way])


class _Source:
    """Gathers the items of a source into chunks, one chunk ahead.

    Attributes:
        chunks: what was gathered; None after the last chunk.
    """

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any], chunker: Chunker, window: int) -> None:
        self.chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()
        self._items = items
        self._chunker = chunker
        self._room = asyncio.Semaphore(window)
        # Set while no chunk waits to be sent: the size of the next chunk depends on the answers until then.
        self._wanted = asyncio.Event()
        self._wanted.set()

    async def read(self) -> None:
        """Gather the items of the source into chunks until the source ends or raises."""
        loop, timer, count = asyncio.get_running_loop(), None, 0
        try:
            async for item in _each(self._items):
                count += 1
                if count % _TURN == 0:  # nothing below waits while items are skipped
                    await asyncio.sleep(0)
                await self._room.acquire()
                await self._wanted.wait()
                before = self._chunker.taken
                self._hand_over(self._chunker.add(item))
                if self._chunker.taken == before:  # it was skipped
                    self._room.release()
                if timer is not None:
                    timer.cancel()
                timer = loop.call_later(_LINGER, lambda: self._hand_over(self._chunker.rest()))
        finally:
            if timer is not None:
                timer.cancel()
            self._hand_over(self._chunker.rest())
            self.chunks.put_nowait(None)

    def ask_for_next(self) -> None:
        """Let the next chunk be gathered."""
        self._wanted.set()

    def finished(self, chunk: Chunk) -> None:
        """Make room for as many items as the chunk has."""
        for _ in chunk.keys:
            self._room.release()

    def _hand_over(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self.chunks.put_nowait(chunk)
            self._wanted.clear()


async def _unanswered(on_the_way: set[asyncio.Task[Response]], pace: Pace) -> int:
    """Wait until the pace allows one more request, and return how many requests are unanswered then."""
    while len(pending := {response for response in on_the_way if not response.done()}) >= pace.requests:
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    return len(pending)


async def cancelled(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancel tasks and wait until they have ended; what they raise is dropped."""
    unfinished = [task for task in tasks if task is not None]
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item

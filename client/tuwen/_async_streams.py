"""The pipeline of an asynchronous stream: items are gathered and sent by tasks, results are handed out in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeAlias, TypeVar

from tuwen._streams import Chunk, Chunker

__all__ = ["Sent", "cancelled", "in_order"]

# Seconds. What a source gave before it paused for longer is sent, so that nobody waits for a request to fill.
_LINGER = 0.02

Request = TypeVar("Request")
Response = TypeVar("Response")
Sent: TypeAlias = tuple[Request, "asyncio.Task[Response] | None"]
"""What was sent for a chunk, and the response on its way; None: there was nothing to send."""


async def in_order(
    items: Iterable[Any] | AsyncIterable[Any],
    chunker: Chunker,
    window: int,
    send: Callable[[Chunk], Awaitable[Sent[Request, Response]]],
) -> AsyncGenerator[tuple[Chunk, Request, Response | None], None]:
    """Send items chunk by chunk, at most `window` of them at once, and give what came back, in order.

    The source is iterated by one task from beginning to end. When it raises, or `send` does, everything before
    that is given first. Closing the iterator cancels what is on its way.
    """
    room = asyncio.Semaphore(window)
    gathered: asyncio.Queue[Chunk | None] = asyncio.Queue()
    sent: asyncio.Queue[tuple[Chunk, Request, asyncio.Task[Response] | None] | None] = asyncio.Queue()
    on_the_way: set[asyncio.Task[Response]] = set()

    def hand_over(chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            gathered.put_nowait(chunk)

    async def read() -> None:
        loop, timer = asyncio.get_running_loop(), None
        try:
            async for item in _each(items):
                await room.acquire()
                before = chunker.taken
                hand_over(chunker.add(item))
                if chunker.taken == before:  # it was skipped
                    room.release()
                if timer is not None:
                    timer.cancel()
                timer = loop.call_later(_LINGER, lambda: hand_over(chunker.rest()))
        finally:
            if timer is not None:
                timer.cancel()
            hand_over(chunker.rest())
            gathered.put_nowait(None)

    async def send_each() -> None:
        try:
            while (chunk := await gathered.get()) is not None:
                request, response = await send(chunk)
                if response is not None:
                    on_the_way.add(response)
                sent.put_nowait((chunk, request, response))
        finally:
            sent.put_nowait(None)

    tasks = [asyncio.create_task(read()), asyncio.create_task(send_each())]
    try:
        while (first := await sent.get()) is not None:
            chunk, request, response = first
            answer = await response if response is not None else None
            on_the_way -= {response}
            for _ in chunk.keys:
                room.release()
            yield chunk, request, answer
        for task in reversed(tasks):  # an item that could not be sent leaves the reader waiting for room
            await task
    finally:
        await cancelled([*tasks, *on_the_way])


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

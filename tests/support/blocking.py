"""A wrapper with which one suite of tests covers a synchronous class, such as `Client`, and its asynchronous twin."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["Blocking", "Make"]

Make = Callable[..., AbstractContextManager[Any]]


class Blocking:
    """A wrapper that gives an asynchronous object, such as an `AsyncClient`, blocking methods.

    The methods run in an event loop in a thread of the wrapper.

    Args:
        make: a function that makes the object. It is called in the caller's thread, and may return an awaitable.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            made = make()
            self._client = self._run(made) if inspect.isawaitable(made) else made
        except BaseException:
            self._end()
            raise

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not callable(method):
            return method
        if inspect.iscoroutinefunction(method):
            return lambda *arguments, **options: self._run(method(*arguments, **options))
        return lambda *arguments, **options: self._iterate(method(*arguments, **options))

    def _iterate(self, stream: AsyncIterator[Any]) -> Iterator[Any]:
        while (item := self._run(anext(stream, None))) is not None:
            yield item

    def _run(self, call: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await call

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(120)

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.close())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

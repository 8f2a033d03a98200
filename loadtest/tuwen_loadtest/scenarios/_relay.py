"""A relay between client and server that can slow or cut connections."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any

__all__ = ["Relay"]

_PIECE = 1 << 14
_TIMEOUT = 10.0

Sleep = Callable[[float], Awaitable[object]]


class Relay:
    """A relay that forwards the connections at `url` to a server; a context manager.

    Args:
        host, port: the address of the server.
        bytes_a_second: the maximum speed of each direction in bytes per second; None: no limit.
        sleep: a function that waits between the pieces of a slow connection. Tests pass a function that does not wait.
    """

    def __init__(
        self, host: str, port: int, *, bytes_a_second: float | None = None, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._target, self._rate, self._sleep = (host, port), bytes_a_second, sleep
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)

    @property
    def url(self) -> str:
        """The address to which clients connect, such as ``127.0.0.1:40123``."""
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Reset all connections, as after a power failure of the client's machine."""
        for one in self._sockets:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._run(self._close())

    def __enter__(self) -> Relay:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._forward, "127.0.0.1", 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT)

    async def _close(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):  # the server cannot be reached, or the relay ends
            writer.transport.abort()
            return
        self._sockets.append(there_writer.get_extra_info("socket"))
        task = asyncio.current_task()
        self._tasks.add(task)  # asyncio itself keeps only weak references to tasks
        try:
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # a side has disconnected; before Python 3.12, asyncio logs a traceback for a cancelled task
        finally:
            self._tasks.discard(task)
            there_writer.transport.abort()
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
            if self._rate:
                await self._sleep(len(piece) / self._rate)
        writer.write_eof()

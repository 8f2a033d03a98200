"""A TCP relay between client and server that can reset, delay, slow down or silently drop its connections."""

from __future__ import annotations

import asyncio
import time

from tuwen_loadtest.scenarios._relay import Relay

__all__ = ["Wire"]

_PIECE = 1 << 12


class Wire(Relay):
    """A TCP relay whose connections a test can break, each for a number of seconds or for ever."""

    def __init__(self, url: str) -> None:
        host, port = url.rsplit(":", 1)
        super().__init__(host, int(port))
        self._age = 0
        self._down = self._slow = False

    def forget(self) -> None:
        """Drop the data of all open connections from now on, without closing them, as a firewall may do."""
        self._age += 1

    def down(self, seconds: float) -> None:
        """Reset every connection that carries data, including new connections, for some seconds."""
        self._down = True
        time.sleep(seconds)
        self._down = False

    def silent(self, seconds: float) -> None:
        """Hold back all data in both directions for some seconds, then deliver the data."""
        self._loop.call_soon_threadsafe(time.sleep, seconds)
        time.sleep(seconds)

    def slow(self, bytes_a_second: float, seconds: float) -> None:
        """Limit the rate of each connection and direction, in bytes a second, for some seconds."""
        self._slow, self._rate = True, bytes_a_second
        time.sleep(seconds)
        self._slow = False

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        born = self._age
        while piece := await reader.read(_PIECE):
            if self._down:
                raise ConnectionResetError
            if born != self._age:
                continue
            writer.write(piece)
            await writer.drain()
            if self._slow and self._rate:
                await asyncio.sleep(len(piece) / self._rate)
        writer.write_eof()

"""A network between client and server that can go down, swallow, forget its connections, and crawl."""

from __future__ import annotations

import asyncio
import time

from tuwen_loadtest.scenarios._relay import Relay

__all__ = ["Wire"]

_PIECE = 1 << 12


class Wire(Relay):
    """A `Relay` with faults that come and go."""

    def __init__(self, url: str) -> None:
        host, port = url.rsplit(":", 1)
        super().__init__(host, int(port))
        self._age = 0
        self._down = self._slow = False

    def forget(self) -> None:
        """Every connection there is stays open and carries nothing any more, as when a firewall forgot it."""
        self._age += 1

    def down(self, seconds: float) -> None:
        """Every connection is reset, and so is every new one."""
        self._down = True
        time.sleep(seconds)
        self._down = False

    def silent(self, seconds: float) -> None:
        """Hold back all data in both directions for a while, then deliver it."""
        self._loop.call_soon_threadsafe(time.sleep, seconds)
        time.sleep(seconds)

    def slow(self, bytes_a_second: float, seconds: float) -> None:
        """So much comes through, in either direction."""
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

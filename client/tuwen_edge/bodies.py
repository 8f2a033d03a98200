"""Request bodies: read piece by piece, within limits of size, memory and time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import TracebackType

from starlette.types import Message, Receive

from tuwen_edge.errors import EdgeError

__all__ = ["BodyLimits", "BodyReader", "DisconnectedError", "Memory"]

_MIB = 1 << 20


class DisconnectedError(Exception):
    """The HTTP client disconnected before its request was complete."""


class Memory:
    """A counter of the bytes of all request bodies in memory, with a limit.

    Args:
        limit: the maximum number of bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    def take(self, count: int) -> None:
        """Add bytes that are now kept in memory.

        Raises:
            EdgeError: 429: the limit is reached.
        """
        if self.used + count > self._limit:
            raise EdgeError(
                429, "Too many large requests at once. Try again later.", code="memory_limit", retry_after=1
            )
        self.used += count

    def give_back(self, count: int) -> None:
        """Subtract bytes that were freed."""
        self.used -= count


class BodyLimits:
    """The limits for all request bodies.

    Args:
        max_bytes: the maximum size of one body in bytes.
        memory: the counter of the bytes of all bodies, with their common limit.
        timeout: the maximum time in seconds for a body to arrive.
    """

    def __init__(self, max_bytes: int, memory: Memory, timeout: float) -> None:
        self.max_bytes = max_bytes
        self.memory = memory
        self.timeout = timeout


class BodyReader:
    """The reader of one request's body. It is a context manager: the body's bytes count as memory until the block ends.

    Args:
        receive: the function ``receive`` that ASGI passes to the application.
        headers: the headers of the request, with names in lower case.
    """

    def __init__(self, receive: Receive, headers: Mapping[str, str], limits: BodyLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._declared = _length(headers)
        self._taken = 0
        self.is_complete = False

    def __enter__(self) -> BodyReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._limits.memory.give_back(self._taken)
        self._taken = 0

    async def read(self) -> bytes:
        """Return the whole body.

        Raises:
            EdgeError: 408, 413 or 429: a limit is reached; the rest of the body is not read.
            DisconnectedError: the HTTP client disconnected.
        """
        async with aclosing(self.pieces()) as pieces:
            return b"".join([piece async for piece in pieces])

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the pieces of the body as they arrive.

        Raises:
            EdgeError: 408, 413 or 429: a limit is reached; the rest of the body is not read.
            DisconnectedError: the HTTP client disconnected.
        """
        if self._declared > self._limits.max_bytes:
            raise self._too_large()
        deadline = asyncio.get_running_loop().time() + self._limits.timeout
        while not self.is_complete:
            try:
                message = await self._message(deadline)
            except asyncio.TimeoutError:
                raise EdgeError(
                    408, f"The body did not arrive within {self._limits.timeout:g} seconds.", code="upload_timeout"
                ) from None
            if message["type"] == "http.disconnect":
                raise DisconnectedError
            self.is_complete = not message.get("more_body", False)
            piece = message.get("body", b"")
            if self._taken + len(piece) > self._limits.max_bytes:
                raise self._too_large()
            self._limits.memory.take(len(piece))
            self._taken += len(piece)
            yield piece

    async def drain(self, seconds: float, count: int) -> None:
        """Read and discard a part of the remaining body, so that the HTTP client can read the response.

        Args:
            seconds: the maximum time in seconds.
            count: the maximum number of bytes.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.is_complete and count > 0:
            try:
                message = await self._message(deadline)
            except asyncio.TimeoutError:
                return
            count -= len(message.get("body", b""))
            self.is_complete = message["type"] == "http.disconnect" or not message.get("more_body", False)

    async def _message(self, deadline: float) -> Message:
        if sys.version_info >= (3, 11):  # cheaper than `wait_for`, which makes a task for each message
            async with asyncio.timeout_at(deadline):
                return await self._receive()
        return await asyncio.wait_for(self._receive(), max(deadline - asyncio.get_running_loop().time(), 0.0))

    @property
    def size(self) -> int:
        """The number of bytes that were read."""
        return self._taken

    def _too_large(self) -> EdgeError:
        limit = self._limits.max_bytes
        shown = f"{limit // _MIB} MiB" if limit % _MIB == 0 else f"{limit} bytes"
        return EdgeError(413, f"The body is larger than the limit of {shown}.", code="body_too_large")


def _length(headers: Mapping[str, str]) -> int:
    declared = headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 20 else 0

"""uvicorn's HTTP protocol with two more limits: on the size of request headers, and on the time until they arrive."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["guarded_protocol"]

_HEAD_SECONDS = 15.0
_HEAD_BYTES = 64 << 10
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def guarded_protocol(max_connections: int) -> type[HttpToolsProtocol]:
    """Return a new protocol class, for one server.

    Args:
        max_connections: the maximum number of connections. Beyond this number, a new connection closes the connection
            that has waited longest without complete request headers. So callers that send slowly cannot keep other
            callers out.
    """
    waiting: OrderedDict[GuardedProtocol, None] = OrderedDict()

    class GuardedProtocol(HttpToolsProtocol):
        """A connection that is closed if the headers of a request are too large or arrive too late."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self._head_size = 0
            self._head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_head()
            if len(self.connections) > max_connections:
                next(iter(waiting)).transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_head()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._head_timer is not None:
                self._head_size += len(data)
                if self._head_size > _HEAD_BYTES and not self.transport.is_closing():
                    self.transport.write(_TOO_LARGE)
                    self.transport.close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._await_head()

        def on_headers_complete(self) -> None:
            self._end_head()
            super().on_headers_complete()

        def _await_head(self) -> None:
            if self._head_timer is None:
                self._head_size = 0
                waiting[self] = None
                self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)

        def _end_head(self) -> None:
            waiting.pop(self, None)
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return GuardedProtocol

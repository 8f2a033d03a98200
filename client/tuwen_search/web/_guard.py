"""The protection of the page: allowed host names, a limit on request bodies, and headers for the browser."""

from __future__ import annotations

from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuwen.connection import is_own_host

__all__ = ["Guard"]

_HEADERS = {
    # Scripts and styles are files of the page, and thumbnails are `data:` URLs. Nothing comes from any other host.
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}
_ROOM_FOR_THE_FORM = 64 << 10


class Guard:
    """Middleware that rejects unknown host names (400) and large bodies (413), and adds security headers to responses.

    A large body is rejected before it is read.

    A hostile site can let its name resolve to this machine (DNS rebinding), and then read the page in a visitor's
    browser. Such a request has the name of that site as its host. So the host must be an IP address, ``localhost``, or
    one of `hosts`.

    Args:
        app: the ASGI application to protect.
        most_bytes: the maximum size of an upload in bytes.
        hosts: the host names under which browsers reach the page.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int, hosts: Collection[str] = ()) -> None:
        self._app, self._most = app, most_bytes + _ROOM_FOR_THE_FORM
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request, and pass it on to the application, as ASGI defines it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        allowed = len(hosts) == 1 and is_own_host(hosts[0], self._hosts)
        if scope["type"] == "websocket":
            if allowed:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS.items()]
            await send(message)

        async def refuse(status: int, why: bytes) -> None:
            await guarded(
                {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]}
            )
            await guarded({"type": "http.response.body", "body": why})

        if not allowed:
            await refuse(400, b"the page does not answer under this host name; see --allowed-host\n")
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit() or int(length) > self._most:
            await refuse(413, b"too large, or of unknown length\n")
            return
        await self._app(scope, receive, guarded)

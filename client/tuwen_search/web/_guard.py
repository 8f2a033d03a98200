"""What keeps the page safe: a limit on what is sent to it, and headers that keep a browser at home."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard"]

_HEADERS = {
    # NiceGUI builds its page with scripts and styles of its own inside it; nothing comes from any other host.
    b"content-security-policy": b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    b"connect-src 'self' ws: wss:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}
_ROOM_FOR_THE_FORM = 64 << 10


class Guard:
    """Refuses bodies of more than so many bytes with 413, before they are read, and adds headers to each answer."""

    def __init__(self, app: ASGIApp, *, most_bytes: int) -> None:
        self._app, self._most = app, most_bytes + _ROOM_FOR_THE_FORM

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS.items()]
            await send(message)

        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit() or int(length) > self._most:
            await guarded({"type": "http.response.start", "status": 413, "headers": [(b"content-type", b"text/plain")]})
            await guarded({"type": "http.response.body", "body": b"too large, or of unknown length\n"})
            return
        await self._app(scope, receive, guarded)

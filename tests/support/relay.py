"""A TCP relay in front of a server. It can also refuse connections, stay silent, answer as a web server, or encrypt."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Literal

__all__ = ["Behaviour", "Relay"]

Behaviour = Literal["forward", "down", "silent", "web"]
_HTTP = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Relay:
    """A relay on a free port of this machine; a context manager.

    Args:
        target: the address of the server, ``host:port``.
        tls: the TLS context for the connections of callers; None: the relay does not encrypt.
        pause: the seconds that the relay waits before it passes on each part of a response.
    """

    def __init__(self, target: str, tls: ssl.SSLContext | None = None, *, pause: float = 0) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._tls, self._pause = tls, pause
        self._behaviour: Behaviour = "forward"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self._port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    @property
    def url(self) -> str:
        """The address of the relay, ``host:port``."""
        return f"127.0.0.1:{self._port}"

    def behave(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        """Change the behaviour of the relay from now on, and close all open connections.

        Args:
            behaviour: ``forward``: connect callers with the server; ``down``: refuse connections; ``silent``: accept
                connections but never respond; ``web``: respond to every request with 404, as an HTTP/1.1 server.
            tls: the new TLS context for the connections of callers; None: the context stays as it is.
        """
        self._behaviour, self._tls = behaviour, tls or self._tls
        self._close()
        if behaviour != "down":
            self._listener = socket.create_server(("127.0.0.1", self._port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _close(self) -> None:
        with self._lock:
            # close the listener first, because a caller whose connection is closed connects again at once
            ends, self._open = [*([self._listener] if self._listener else []), *self._open], set()
            self._listener = None
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:  # the listener is closed
                return
            with self._lock:
                if listener is not self._listener:  # the listener was closed after it had accepted the connection
                    caller.close()
                    return
                self._open.add(caller)
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._behaviour == "silent":
                return  # the connection stays open until the next behaviour
            if self._behaviour == "web":
                caller.recv(1 << 16)
                caller.sendall(_HTTP)
                caller.close()
                return
            if self._tls is not None:
                caller = self._tls.wrap_socket(caller, server_side=True)
            server = socket.create_connection(self._target)
            with self._lock:
                self._open |= {caller, server}
            with caller, server:
                _pump(caller, server, self._pause)


def _pump(caller: socket.socket, server: socket.socket, pause: float) -> None:
    other = {caller: server, server: caller}
    while True:
        pending = [caller] if isinstance(caller, ssl.SSLSocket) and caller.pending() else []
        for end in pending or select.select([caller, server], [], [])[0]:
            data = end.recv(1 << 16)
            if not data:
                return
            if end is server and pause:
                time.sleep(pause)
            other[end].sendall(data)

"""The edge as a process, or as a thread beside an embedded server."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType

import uvicorn

from tuwen import AsyncClient, InvalidArgumentError
from tuwen.connection import bracketed
from tuwen_edge._protocol import guarded_protocol
from tuwen_edge.app import create_app
from tuwen_edge.log import configure_logging
from tuwen_edge.options import EdgeOptions

if sys.platform != "win32":
    import resource

__all__ = ["EdgeThread", "run_edge"]

_POLL_SECONDS = 0.02
_START_SECONDS = 30.0
_BACKLOG = 2048
_SPARE_FILES = 128


def run_edge(options: EdgeOptions, *, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Then finish the requests in flight.

    Args:
        options: the options of the edge.
        say: a function that is called with the edge's address as soon as the edge listens.

    Raises:
        InvalidArgumentError: the port is in use, or a setting is invalid.
        MissingExtraError: an extra is missing.
        KeyboardInterrupt: a signal arrived, and the requests in flight have finished.
    """
    with _listener(options) as listener:
        server = _server(options)
        say(_address(options, listener))
        server.run(sockets=[listener])


class EdgeThread:
    """The edge in a thread of this process. It is a context manager, whose exit waits for the requests in flight.

    Args:
        options: the options of the edge. The port is opened at once, so that an edge that cannot start fails early.
        client: the client of the embedding server; None: a new client from the options.

    Attributes:
        address: the address of the edge, such as ``http://127.0.0.1:8080``.

    Raises:
        InvalidArgumentError: the port is in use, or a setting is invalid.
        MissingExtraError: an extra is missing.
    """

    def __init__(self, options: EdgeOptions, client: AsyncClient | None = None) -> None:
        self._listener = _listener(options)
        try:
            self._server = _server(options, client)
        except BaseException:
            self._listener.close()
            raise
        self.address = _address(options, self._listener)
        self._thread = threading.Thread(target=self._run, name="tuwen-edge", daemon=True)

    def __enter__(self) -> EdgeThread:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(_POLL_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Finish the requests in flight, and end the thread. A second call does nothing."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join((self._server.config.timeout_graceful_shutdown or 0) + _START_SECONDS)
        self._listener.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])


def _server(options: EdgeOptions, client: AsyncClient | None = None) -> uvicorn.Server:
    configure_logging()
    _allow_files(options.max_connections + _SPARE_FILES)
    config = uvicorn.Config(
        create_app(options, client),
        http=guarded_protocol(options.max_connections),
        ws="none",
        loop="auto",
        lifespan="on",
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=options.drain_timeout,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )
    return uvicorn.Server(config)


def _allow_files(count: int) -> None:
    """Raise this process's limit on open files to `count`, or to the system's maximum if that is lower."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listener(options: EdgeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError: the host is too long for a host name
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise InvalidArgumentError(
            f"cannot listen on {bracketed(options.host)}:{options.port}: {reason}; choose another port with --port"
        ) from None
    return listener


def _address(options: EdgeOptions, listener: socket.socket) -> str:
    return f"http://{bracketed(options.host)}:{listener.getsockname()[1]}"

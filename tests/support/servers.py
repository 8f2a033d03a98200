"""The tritonservers of the tests: one running server for each repository, replaced when it is unhealthy."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuwen_server import EmbeddedServer, ServerOptions

__all__ = ["KnownServerTroubleError", "RecordedServer", "SharedServers", "known_trouble"]

# Faults of Triton 2.51 that our code cannot prevent. A test that fails because of such a fault is run once more.
_KNOWN_TROUBLE = {
    "a process that got no processor time held a lock of the Python backend (server#8882)": re.compile(
        r"boost::interprocess::lock_exception"
    ),
    "gRPC's reference count aborts the server with 'prior > 0'": re.compile(r"prior > 0"),
    "a Python model that got no processor time for a second is taken for dead": re.compile(
        r"[Ss]tub process .{0,80}is not healthy"
    ),
}


class KnownServerTroubleError(Exception):
    """The failure of a test while the embedded server showed a known fault of Triton 2.51.

    pytest runs such a test once more.
    """


@dataclass(frozen=True)
class _Line:
    when: float
    text: str


_lines: list[_Line] = []


class RecordedServer(EmbeddedServer):
    """An `EmbeddedServer` that keeps its log lines, in which `known_trouble` looks for the cause of a failed test."""

    def __init__(self, repository: Path, options: ServerOptions | None = None, **others: Any) -> None:
        passed_on = others.pop("on_log_line", None)

        def record(text: str) -> None:
            _lines.append(_Line(time.monotonic(), text))
            if passed_on:
                passed_on(text)

        super().__init__(repository, options or ServerOptions.on_free_ports(), on_log_line=record, **others)


def known_trouble(since: float, message: str = "") -> str | None:
    """Return the known fault of Triton that a server's log or the failure of a test shows; None if there is none.

    Args:
        since: the time when the test began, by `time.monotonic`. Only log lines after this time count.
        message: the text of the test's failure, which may quote the server's error.
    """
    texts = [message, *(line.text for line in _lines if line.when >= since)]
    for trouble, pattern in _KNOWN_TROUBLE.items():
        if any(pattern.search(text) for text in texts):
            return trouble
    return None


class SharedServers:
    """The servers that all tests of one pytest worker share, one for each repository."""

    def __init__(self) -> None:
        self._running: dict[Path, RecordedServer] = {}

    def on(self, repository: Path) -> RecordedServer:
        """Return a running server for a repository, with free ports and default options.

        A server that has failed, or lost a process, is replaced by a new one.
        """
        server = self._running.get(repository)
        if server is not None and server.trouble() is None:
            return server
        if server is not None:
            server.stop()
        server = RecordedServer(repository)
        server.start()
        self._running[repository] = server
        return server

    def stop(self) -> None:
        """Stop every server."""
        for server in self._running.values():
            server.stop()
        self._running.clear()


@contextmanager
def shared_servers() -> Iterator[SharedServers]:
    """Yield `SharedServers` for the block, and stop the servers afterwards."""
    servers = SharedServers()
    try:
        yield servers
    finally:
        servers.stop()

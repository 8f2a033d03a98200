"""The HTTP edge for tests: in memory, in a thread behind a real socket, or in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
from PIL import Image

from tests.support.command import TUWEN
from tuwen import AsyncClient, HttpFetcher
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_edge import EdgeOptions, EdgeThread, create_app

__all__ = ["EdgeInMemory", "EdgeProcess", "base64_of", "data_url", "edge_in_a_thread", "edge_process", "png"]


class EdgeInMemory:
    """The HTTP edge in front of a fake server, called without a socket; a context manager."""

    def __init__(self, fake: FakeTransport | None = None, **settings: Any) -> None:
        self.fake = fake or FakeTransport()
        options = EdgeOptions(**{"access_log": False} | settings)
        self._client = client = AsyncClient(transport=AsyncFakeTransport(self.fake), tracing=options.tracing)
        self._loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(create_app(options, client))
        self._http = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def __enter__(self) -> EdgeInMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.run_until_complete(self._http.aclose())
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def get(self, path: str, **settings: Any) -> httpx.Response:
        """Send a GET request."""
        return self._loop.run_until_complete(self._http.get(path, **settings))

    def post(self, path: str, body: Any = None, **settings: Any) -> httpx.Response:
        """Send a POST request with a body in JSON, or with the body that the arguments of httpx in `settings` name."""
        if body is not None:
            settings["json"] = body
        return self._loop.run_until_complete(self._http.post(path, **settings))

    def request(self, method: str, path: str, **settings: Any) -> httpx.Response:
        """Send a request."""
        return self._loop.run_until_complete(self._http.request(method, path, **settings))


@contextmanager
def edge_in_a_thread(fake: FakeTransport | None = None, **settings: Any) -> Iterator[str]:
    """Run an edge with a real socket in front of a fake server, and yield its address."""
    options = EdgeOptions(**{"access_log": False, "port": 0, "drain_timeout": 5} | settings)
    fetcher = HttpFetcher(allow=options.fetch_hosts) if options.fetch_hosts else None
    client = AsyncClient(transport=AsyncFakeTransport(fake or FakeTransport()), fetcher=fetcher)
    with EdgeThread(options, client) as edge:
        yield edge.address


def png(colour: str = "red", size: tuple[int, int] = (8, 8)) -> bytes:
    """Return a PNG picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def base64_of(data: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(data).decode()


def data_url(data: bytes) -> str:
    """Return the ``data:`` URL of a PNG picture."""
    return f"data:image/png;base64,{base64_of(data)}"


@dataclass
class EdgeProcess:
    """A `tuwen edge` that runs in a process of its own.

    Attributes:
        process: the running process.
        address: the base URL of the edge, such as ``http://127.0.0.1:8080``.
        lines: the lines that the process has written to standard error; complete once the process has ended.
    """

    process: subprocess.Popen[str]
    address: str
    lines: list[str]


@contextmanager
def edge_process(url: str, *arguments: str) -> Iterator[EdgeProcess]:
    """Run `tuwen edge` on a free port in front of a server, and end it after the block."""
    command = [TUWEN, "edge", url, "--port", "0", *arguments]
    environment = {"PYTHONUNBUFFERED": "1", **os.environ}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            if line.startswith("http://"):
                break
        address = "".join(lines[-1:]).partition("/v1/")[0]
        assert address.startswith("http://"), "\n".join(lines)
        reader = threading.Thread(
            target=lambda: lines.extend(line.rstrip("\n") for line in process.stderr or ()), daemon=True
        )
        reader.start()
        try:
            yield EdgeProcess(process, address, lines)
        finally:
            process.terminate()
            process.wait(60)
            reader.join(20)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)
        process.stderr.close()

"""A test of a long stream, during which the real server is killed and restarted twice."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.command import wait_until
from tests.support.servers import RecordedServer
from tuwen import Client
from tuwen._images import encoded_bytes
from tuwen_server import ServerOptions

pytestmark = [pytest.mark.alone, pytest.mark.provokes_trouble]

COUNT = 10_000
IMAGES = [encoded_bytes(Image.new("RGB", (8, 8), (shade, 255 - shade, 40))) for shade in range(0, 250, 5)]


def pictures() -> Iterator[tuple[int, bytes]]:
    return ((number, b"broken" if number % 1000 == 999 else IMAGES[number % len(IMAGES)]) for number in range(COUNT))


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def test_a_stream_yields_every_picture_once_in_order_although_the_server_is_killed_twice(repository: Path) -> None:
    options = ServerOptions.on_free_ports().with_ports_resolved()
    server = RecordedServer(repository, options).__enter__()
    restarts: list[threading.Thread] = []

    def kill_and_start() -> None:
        nonlocal server
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: server.poll() is not None)
        server.stop()
        server = RecordedServer(repository, options).__enter__()

    seen: list[int] = []
    memory_early = 0
    try:
        with Client(server.grpc_url, timeout=600) as clip:
            expected = clip.embed_images(IMAGES)
            for item in clip.stream_images(pictures(), window=64):
                assert item.key == item.index == len(seen)
                seen.append(item.index)
                if item.index % 1000 == 999:
                    assert item.error is not None
                    assert item.error.reason == "unsupported_format"
                else:
                    assert item.embedding is not None
                    assert np.abs(item.embedding - expected[item.index % len(IMAGES)]).max() < 1e-5
                if item.index == 1000:
                    memory_early = resident_mib()
                if item.index in (2_500, 6_000):
                    restarts.append(threading.Thread(target=kill_and_start))
                    restarts[-1].start()
    finally:
        for restart in restarts:
            restart.join()
        server.stop()
    assert len(seen) == COUNT
    assert len(restarts) == 2
    print(f"resident at item 1,000: {memory_early:.1f} MiB, at the end: {resident_mib():.1f} MiB")
    assert resident_mib() < memory_early + 16

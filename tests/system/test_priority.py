"""People keep their latency while bulk jobs run: their requests go before those that nobody waits for."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tuwen import Client
from tuwen._routes import Priority
from tuwen_build.server import EmbeddedServer
from tuwen_build.traffic import photographs

pytestmark = pytest.mark.alone

JOBS, CALLS = 16, 15


@contextmanager
def bulk_jobs(server: EmbeddedServer, priority: Priority) -> Iterator[None]:
    """Several that embed photographs as fast as they can."""
    stop = threading.Event()
    album = photographs(8, size=(1600, 1200))

    def work() -> None:
        with Client(server.grpc_url, timeout=120, priority=priority) as clip:
            while not stop.is_set():
                clip.embed_images(album)

    jobs = [threading.Thread(target=work) for _ in range(JOBS)]
    for job in jobs:
        job.start()
    try:
        time.sleep(2)
        yield
    finally:
        stop.set()
        for job in jobs:
            job.join()


def waiting(server: EmbeddedServer, priority: Priority) -> float:
    """The median latency of somebody with one picture, in seconds, beside jobs of this priority."""
    [picture] = photographs(1, size=(64, 64), seed=1)
    with bulk_jobs(server, priority), Client(server.grpc_url, timeout=120) as clip:
        latencies = []
        for _ in range(CALLS):
            start = time.perf_counter()
            clip.embed_images([picture])
            latencies.append(time.perf_counter() - start)
    return statistics.median(latencies)


def test_bulk_work_lets_people_go_first(server: EmbeddedServer) -> None:
    among_equals, first = waiting(server, "interactive"), waiting(server, "bulk")
    print(f"beside {JOBS} jobs: {among_equals * 1e3:.0f} ms among equals, {first * 1e3:.0f} ms before them")
    assert first < 0.7 * among_equals


@pytest.mark.parametrize("priority", ["interactive", "bulk"])
def test_streams_are_bulk_and_calls_are_what_the_client_is(server: EmbeddedServer, priority: Priority) -> None:
    from tuwen.testing import FakeTransport

    fake = FakeTransport()
    with Client(transport=fake, priority=priority) as clip:
        clip.embed_texts(["一只猫"])
        assert [request.bulk for request in fake.requests] == [priority == "bulk"]
        list(itertools.islice(clip.stream_texts(["一只狗"]), 1))
        assert fake.requests[-1].bulk
    with Client(server.grpc_url, priority=priority) as clip:
        assert clip.embed_texts(["一只猫"]).shape == (1, 64)

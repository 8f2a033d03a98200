"""The time of a single caller's calls while bulk jobs run, with and without priority over the jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from tuwen import Client
from tuwen_server import EmbeddedServer, ServerOptions
from tuwen_server.traffic import photographs

__all__ = ["JOBS", "measure_beside_jobs"]

JOBS = 16
"""The number of jobs that run at the same time."""
_PHOTOGRAPHS, _LARGE, _SMALL = 8, (1600, 1200), (64, 64)
_TIMEOUT = 600.0


def measure_beside_jobs(repository: Path, calls: int) -> Mapping[str, float]:
    """Return the median seconds of a call with one small picture while jobs run, by the priority of the jobs.

    Args:
        repository: a folder that `tuwen build` made.
        calls: the number of calls for each priority.
    """
    [picture] = photographs(1, size=_SMALL, seed=1)
    found = {}
    options = replace(
        ServerOptions.on_free_ports(), queue_policies=True
    )  # Triton has priorities only with queue policies
    with EmbeddedServer(repository, options) as server:
        for priority in ("interactive", "bulk"):
            with (
                Client(server.grpc_url, timeout=_TIMEOUT, priority=priority) as jobs,
                Client(server.grpc_url, timeout=_TIMEOUT) as person,
                _running(jobs),
            ):
                found[priority] = median(_seconds(person, picture) for _ in range(calls))
    return found


def _seconds(clip: Client, picture: bytes) -> float:
    start = time.perf_counter()
    clip.embed_images([picture])
    return time.perf_counter() - start


@contextmanager
def _running(clip: Client) -> Iterator[None]:
    """Run jobs during a block. A job embeds photographs in one call after another.

    The block begins when each job has had its first answer.
    """
    album = photographs(_PHOTOGRAPHS, size=_LARGE)
    stop, answered = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        while not stop.is_set():
            clip.embed_images(album)
            answered.release()

    jobs = [threading.Thread(target=work) for _ in range(JOBS)]
    for job in jobs:
        job.start()
    try:
        for _ in jobs:
            answered.acquire()
        yield
    finally:
        stop.set()
        for job in jobs:
            job.join()

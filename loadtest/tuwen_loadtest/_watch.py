"""The state of the machines of a load test, second by second: the servers' machines, and this machine."""

from __future__ import annotations

import math
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tuwen import InvalidArgumentError
from tuwen.connection import is_loopback

__all__ = ["Reading", "watch", "watch_processor"]

_EVERY = 1.0  # seconds; Triton updates its metrics every two seconds
_TIMEOUT = 5.0
_MIB = 1 << 20


@dataclass(frozen=True)
class Reading:
    """The state of the servers' machines at one time, from the metrics of Triton and of tuwen's models.

    Attributes:
        time: the time of the reading, in Unix time.
        cpu: the mean busy share of the processors, by all programs of the machines; nan if Triton does not report it.
        memory_mib: the mean memory in use, in MiB; nan if Triton does not report it.
        gpu: the mean busy share of all GPUs; nan without a GPU.
        gpu_memory_mib: the memory in use on all GPUs together, in MiB; nan without a GPU.
        cache_hits, cache_misses: the number of texts since the server's start whose vector was in the cache, or was
            not; nan if the server does not report them.
    """

    time: float
    cpu: float
    memory_mib: float
    gpu: float
    gpu_memory_mib: float
    cache_hits: float = math.nan
    cache_misses: float = math.nan


@contextmanager
def watch(urls: Sequence[str], every: float = _EVERY) -> Iterator[list[Reading]]:
    """Provide a list of readings. A reading is added every second until the end of the block.

    While a server does not answer, for example during a restart, no readings are added.

    Args:
        urls: the addresses of the servers' Prometheus metrics; empty: no readings are added.
        every: the seconds between two readings.

    Raises:
        InvalidArgumentError: an address begins with neither ``http://`` nor ``https://``.
    """
    if strange := [url for url in urls if not url.startswith(("http://", "https://"))]:
        raise InvalidArgumentError(f"metrics: expected an address such as http://host:8002/metrics, got {strange[0]}")
    readings: list[Reading] = []

    def read() -> None:
        with suppress(OSError):
            readings.append(_read(urls))

    with _repeated(read, every) if urls else nullcontext():
        yield readings


@contextmanager
def watch_processor(every: float = _EVERY) -> Iterator[list[float]]:
    """Provide a list of the busy shares of this machine's processor. A share is added every second until the block
    ends.

    Args:
        every: the seconds between two readings.
    """
    shares: list[float] = []
    # psutil measures the share since the last call in the same thread.
    with _repeated(lambda: shares.append(psutil.cpu_percent() / 100), every, first=psutil.cpu_percent):
        yield shares


@contextmanager
def _repeated(read: Callable[[], None], every: float, *, first: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Call a function at intervals, in a thread that ends with the block. The thread begins with a call of `first`."""
    done = threading.Event()

    def repeat() -> None:
        first()
        while not done.wait(every):
            read()

    thread = threading.Thread(target=repeat, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(2 * _TIMEOUT)


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Return a function object that opens an address. Loopback addresses are opened without the environment's proxy."""
    if is_loopback(urlsplit(url).hostname or ""):
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def _read(urls: Sequence[str]) -> Reading:
    found: dict[str, list[float]] = {}
    for url in urls:
        with _opener(url).open(url, timeout=_TIMEOUT) as answer:
            page = answer.read().decode()
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.value)

    def mean(name: str) -> float:
        values = found.get(name)
        return sum(values) / len(values) if values else math.nan

    def total(name: str) -> float:
        return sum(found.get(name, [math.nan]))

    memory = mean("nv_cpu_memory_used_bytes") / _MIB
    return Reading(
        time.time(),
        cpu=mean("nv_cpu_utilization"),
        memory_mib=memory,
        gpu=mean("nv_gpu_utilization"),
        gpu_memory_mib=total("nv_gpu_memory_used_bytes") / _MIB,
        cache_hits=total("tuwen_text_cache_hits_total"),
        cache_misses=total("tuwen_text_cache_misses_total"),
    )

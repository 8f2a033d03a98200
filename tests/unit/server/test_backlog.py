"""The `pytorch` backend refuses requests that waited too long, and keeps its batches full under overload."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tuwen_server

BACKEND = Path(tuwen_server.__file__).parent / "backends" / "pytorch"
FULL = 32  # requests of the largest batch that Triton forms


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `backlog` of the backend, imported from the backend's folder as in Triton."""
    monkeypatch.syspath_prepend(BACKEND)
    import backlog

    yield backlog
    del sys.modules["backlog"]


class Waiting:
    """A fake request with the time at which a client sent it, and with its timeout.

    Args:
        sent_at: the time in seconds since 1970; None: the request does not state the time.
        timeout: the maximum wait in microseconds that the client allows; 0: the request states no timeout.
    """

    def __init__(self, sent_at: float | None, timeout: int = 0) -> None:
        self._parameters = {} if sent_at is None else {"sent_at": int(sent_at * 1e6)}
        self._timeout = timeout

    def parameters(self) -> str:
        return json.dumps(self._parameters) if self._parameters else ""

    def timeout(self) -> int:
        return self._timeout


class Times:
    """A clock that shows the same time until the test sets another time."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def times() -> Times:
    return Times(1000.0)


def busy(backend: ModuleType, times: Times, *, longest: int = 30_000_000, seconds: float = 20.0) -> Any:
    """Return the backlog of an instance that computed one batch for the given seconds and now begins the next batch."""
    backlog = backend.Backlog(longest, times)
    backlog.begin()
    times.now += seconds
    backlog.end()
    backlog.begin()
    return backlog


def test_a_request_that_waited_longer_than_its_timeout_is_refused(backend: ModuleType, times: Times) -> None:
    backlog = busy(backend, times)
    assert backlog.refusal(Waiting(1005.0, timeout=14_000_000)) == (
        "Request timeout expired: the request waited 15.0 seconds, 14.0 were allowed"
    )
    assert backlog.refusal(Waiting(1005.0, timeout=16_000_000)) == ""


def test_the_longest_waiting_time_of_the_model_bounds_that_of_a_request(backend: ModuleType, times: Times) -> None:
    backlog = busy(backend, times, longest=10_000_000)
    assert "10.0 were allowed" in backlog.refusal(Waiting(1005.0, timeout=16_000_000))
    assert "10.0 were allowed" in backlog.refusal(Waiting(1005.0))


def test_a_request_that_does_not_say_when_it_was_sent_is_computed(backend: ModuleType, times: Times) -> None:
    assert busy(backend, times).refusal(Waiting(None, timeout=1)) == ""


def test_a_model_without_a_longest_waiting_time_refuses_nothing(backend: ModuleType, times: Times) -> None:
    assert busy(backend, times, longest=0).refusal(Waiting(0.0, timeout=1)) == ""


def test_an_idle_instance_refuses_nothing_whatever_the_clock_of_the_client_says(
    backend: ModuleType, times: Times
) -> None:
    backlog = backend.Backlog(30_000_000, times)
    backlog.begin()
    times.now += 1.0
    backlog.end()
    times.now += 1.0
    backlog.begin()
    assert backlog.refusal(Waiting(0.0, timeout=1)) == ""


@dataclass(frozen=True)
class Encoder:
    """A simulated encoder with the queue before it.

    Attributes:
        batch: the seconds that a batch of any size takes.
        item: the additional seconds for each request of a batch.
    """

    batch: float
    item: float

    def overloaded(
        self, backend: ModuleType, times: Times, *, load: float, longest: float, seconds: float = 60.0
    ) -> tuple[float, float]:
        """Simulate requests at even intervals, `load` times as many as full batches could answer.

        Returns:
            The answered requests as a share of the requests that full batches could answer, and the mean size of a
            computed batch.
        """
        capacity = FULL / (self.batch + self.item * FULL)
        backlog = backend.Backlog(int(longest * 1e6), times)
        start, queue, sent, answered, computed = times.now, deque[float](), 0, 0, 0
        while (elapsed := times.now - start) < seconds:
            while sent / (load * capacity) <= elapsed:
                queue.append(start + sent / (load * capacity))
                sent += 1
            requests = [Waiting(queue.popleft()) for _ in range(min(FULL, len(queue)))]
            backlog.begin()
            kept = sum(not backlog.refusal(request) for request in requests)
            times.now += self.batch + self.item * kept if kept else 0.0005
            backlog.end()
            answered += kept
            computed += kept > 0
        return answered / (capacity * seconds), answered / computed


@pytest.mark.parametrize("load", [1.2, 2.0, 4.0])
@pytest.mark.parametrize("encoder", [Encoder(0.02, 0.005), Encoder(0.004, 0.0002)], ids=["cpu", "gpu"])
def test_batches_stay_full_under_overload(backend: ModuleType, times: Times, encoder: Encoder, load: float) -> None:
    _, size = encoder.overloaded(backend, times, load=load, longest=2.0)
    assert size > 0.85 * FULL


@pytest.mark.parametrize("load", [2.0, 4.0])
def test_overload_costs_few_answers(backend: ModuleType, times: Times, load: float) -> None:
    share, _ = Encoder(0.02, 0.005).overloaded(backend, times, load=load, longest=2.0)
    assert share > 0.95


def working(backend: ModuleType, times: Times, *, batches: int, seconds: float) -> Any:
    """Return the backlog of an instance that computed batches of the given seconds and now begins the next batch."""
    backlog = backend.Backlog(10_000_000, times)
    for _ in range(batches):
        backlog.begin()
        backlog.refusal(Waiting(None))
        times.now += seconds
        backlog.end()
    backlog.begin()
    return backlog


def test_after_a_request_is_too_old_younger_requests_may_wait_half_as_long(backend: ModuleType, times: Times) -> None:
    backlog = working(backend, times, batches=6, seconds=2.0)
    assert backlog.refusal(Waiting(times.now - 6.0)) == ""
    assert "10.0 were allowed" in backlog.refusal(Waiting(times.now - 11.0))
    assert "waited 6.0 seconds, 5.0 were allowed" in backlog.refusal(Waiting(times.now - 6.0))
    assert backlog.refusal(Waiting(times.now - 4.0)) == ""


def test_shedding_goes_on_until_a_batch_is_computed(backend: ModuleType, times: Times) -> None:
    backlog = working(backend, times, batches=6, seconds=2.0)
    for refused in (11.0, 6.0):
        assert backlog.refusal(Waiting(times.now - refused))
        backlog.end()
        backlog.begin()
    assert backlog.refusal(Waiting(times.now - 4.0)) == ""
    backlog.end()
    backlog.begin()
    assert backlog.refusal(Waiting(times.now - 6.0)) == ""


def test_a_request_with_a_short_limit_sheds_none_with_a_longer_limit(backend: ModuleType, times: Times) -> None:
    backlog = working(backend, times, batches=6, seconds=2.0)
    assert backlog.refusal(Waiting(times.now - 6.0, timeout=1_000))
    assert backlog.refusal(Waiting(times.now - 6.0)) == ""


def test_nothing_is_shed_if_half_of_a_limit_is_shorter_than_a_batch(backend: ModuleType, times: Times) -> None:
    backlog = working(backend, times, batches=2, seconds=6.0)
    assert backlog.refusal(Waiting(times.now - 11.0))
    assert backlog.refusal(Waiting(times.now - 8.0)) == ""

"""The pace of a client: the size and the number of its requests, on simulated servers with known times."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from tuwen._pacing import Pace
from tuwen._routes import Kind


def cpu(items: int) -> float:
    """Return the seconds for a batch of images on a CPU: 96 ms for 1 image, and 5.8 s for 64 images."""
    return 0.005 + items / 11


def gpu(items: int) -> float:
    """Return the seconds for a batch of images on a GPU: 60 ms for 1 image, and 73 ms for 64 images."""
    return 0.06 + items * 0.0002


def text_on_a_cpu(items: int) -> float:
    """Return the seconds for a batch of texts on a CPU: 30 ms for 1 text, and 61 ms for 32 texts."""
    return 0.029 + items * 0.001


def stream(pace: Pace, seconds: Callable[[int], float], requests: int = 200) -> None:
    """Simulate a stream on a server that computes all waiting requests as its next batch.

    Args:
        pace: the pace, which sets the size of each request and adapts to each response.
        seconds: a function that returns the seconds that the server takes for a batch of a number of items.
        requests: the number of requests that the stream sends.
    """
    now, free_at = 0.0, 0.0
    waiting: deque[tuple[float, int, int]] = deque()  # the time of sending, items, and requests in flight
    for _ in range(requests):
        while len(waiting) < pace.requests:
            waiting.append((now, pace.size, len(waiting) + 1))
        start = max(now, free_at)
        batch = [request for request in waiting if request[0] <= start]
        free_at = now = start + seconds(sum(items for _, items, _ in batch))
        for sent, items, in_flight in batch:
            pace.answered(items, now - sent, in_flight)
            waiting.popleft()


def measured(kind: Kind = "image", window: int = 64) -> Pace:
    return Pace(kind, window=window, max_batch_size=32, measured=True)


def test_a_stream_begins_with_one_small_request() -> None:
    assert (measured().size, measured().requests) == (2, 1)
    assert (measured("text", 256).size, measured("text", 256).requests) == (8, 1)


def test_requests_stay_small_and_few_if_batches_save_no_time() -> None:
    pace = measured()
    stream(pace, cpu)
    assert pace.size == 2
    assert 2 <= pace.requests <= 3


def test_requests_grow_and_fill_the_window_if_batches_save_time() -> None:
    pace = measured()
    stream(pace, gpu)
    assert pace.size == 8
    assert pace.requests >= 4


def test_texts_are_sent_in_full_requests_if_batches_of_texts_save_time() -> None:
    pace = measured("text", 256)
    stream(pace, text_on_a_cpu)
    assert pace.size == 32
    assert 2 <= pace.requests <= 3


def test_a_stream_has_fewer_requests_in_flight_if_its_requests_wait() -> None:
    pace = measured()
    stream(pace, gpu)
    others = 0.5
    stream(pace, lambda items: gpu(items) + others)
    assert 2 <= pace.requests <= 3


def test_short_round_trips_fill_the_window() -> None:
    pace = measured()
    stream(pace, lambda items: items * 0.0004)
    assert pace.requests * pace.size >= 32


def test_a_call_sends_the_largest_requests_from_the_beginning() -> None:
    pace = Pace("image", window=100, max_batch_size=32, measured=False)
    assert (pace.size, pace.requests) == (8, 4)
    stream(pace, cpu)
    assert pace.size == 8
    assert 2 <= pace.requests <= 3


@pytest.mark.parametrize(("window", "max_batch_size"), [(1, 32), (3, 32), (64, 1), (64, 5), (5, 3)])
def test_the_window_and_the_maximum_batch_size_are_never_exceeded(window: int, max_batch_size: int) -> None:
    for is_measured in (False, True):
        pace = Pace("image", window=window, max_batch_size=max_batch_size, measured=is_measured)
        for _ in range(100):
            assert 1 <= pace.size <= max_batch_size
            assert pace.requests >= 1
            assert pace.requests * pace.size <= window
            pace.answered(pace.size, 0.001, pace.requests)


def test_a_request_that_was_not_full_does_not_change_the_pace() -> None:
    pace = measured()
    pace.answered(1, 1e-6, 1)
    assert (pace.size, pace.requests) == (2, 1)

"""Streams of the synchronous client: order, completeness, bounded memory, resuming, and waiting for a server."""

from __future__ import annotations

import os
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.blocking import Make
from tests.support.clocks import ManualClock
from tuwen import Client, InferenceError, InvalidArgumentError, ItemOutcome, RetryPolicy, ServerUnavailableError
from tuwen._images import encoded_bytes
from tuwen.testing import FakeTransport

QUICK = RetryPolicy(first_pause=0.001, longest_pause=0.002)
IMAGE = encoded_bytes(Image.new("RGB", (4, 4)))


def texts(count: int) -> Iterator[str]:
    return (f"第{number}句" for number in range(count))


def test_every_item_is_yielded_once_in_order_with_its_vector() -> None:
    with Client(transport=FakeTransport()) as clip:
        items = list(clip.stream_texts(texts(1000)))
        assert [item.index for item in items] == list(range(1000))
        assert [item.key for item in items] == list(texts(1000))
        assert all(item.ok for item in items)
        vectors = np.stack([item.embedding for item in items if item.embedding is not None])
        np.testing.assert_array_equal(vectors, clip.embed_texts(list(texts(1000))))


def test_a_refused_item_is_an_outcome_and_the_other_items_are_embedded(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    good.write_bytes(IMAGE)
    stream = [good, b"", ("mine", IMAGE), tmp_path / "missing.png", IMAGE]
    with Client(transport=FakeTransport()) as clip:
        items = list(clip.stream_images(stream))
    assert [item.key for item in items] == [good, 1, "mine", tmp_path / "missing.png", 4]
    assert [item.ok for item in items] == [True, False, True, False, True]
    assert [item.error and (item.error.index, item.error.reason) for item in items] == [
        None,
        (1, "empty"),
        None,
        (3, "unreadable"),
        None,
    ]


def test_the_window_limits_the_items_that_are_read_ahead() -> None:
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for text in texts(1000):
            taken += 1
            yield text

    with Client(transport=FakeTransport()) as clip:
        stream = clip.stream_texts(source(), window=64)
        for seen in range(1, 200):
            next(stream)
            assert taken <= seen + 64 + 32  # while the window is full, one more request is gathered


@pytest.mark.parametrize("window", [1, 3, 64])
def test_any_window_yields_the_same_outcomes(window: int) -> None:
    fake = FakeTransport()
    with Client(transport=fake) as clip:
        assert [item.key for item in clip.stream_texts(texts(50), window=window)] == list(texts(50))
    assert max(len(request.items) for request in fake.requests) <= window


def test_items_with_skipped_keys_are_not_sent() -> None:
    fake = FakeTransport()
    with Client(transport=fake) as clip:
        done = {f"第{number}句" for number in range(0, 100, 2)}
        items = list(clip.stream_texts(texts(100), skip=done))
    assert [item.index for item in items] == list(range(1, 100, 2))
    assert sum(len(request.items) for request in fake.requests) == 50


@pytest.mark.usefixtures("clock")
def test_a_stream_waits_for_a_server_that_restarts() -> None:
    fake = FakeTransport(fail_with=ServerUnavailableError("restarting"), fail_times=60)
    with Client(transport=fake, retries=QUICK) as clip:
        assert [item.key for item in clip.stream_texts(texts(500))] == list(texts(500))


def test_a_slow_consumer_does_not_reduce_the_time_for_retries(make: Make, clock: ManualClock) -> None:
    class Hiccup(FakeTransport):
        """A fake transport that fails the second request once."""

        def send(self, request, timeout):  # type: ignore[no-untyped-def]
            self._fail_with = ServerUnavailableError("restarting") if len(self.requests) == 1 else None
            return super().send(request, timeout)

    with make(Hiccup(), retries=QUICK) as clip:
        stream = clip.stream_texts(texts(96), timeout=0.05)
        first = next(stream)
        clock.time += 3600
        assert [first.index, *[item.index for item in stream]] == list(range(96))
    assert len(clock.pauses) == 1


def test_a_server_that_stays_away_ends_the_stream_after_the_timeout(clock: ManualClock) -> None:
    fake = FakeTransport(fail_with=ServerUnavailableError("gone"))
    with Client(transport=fake, retries=QUICK) as clip, pytest.raises(ServerUnavailableError, match="gone"):
        list(clip.stream_texts(texts(500), timeout=0.1))
    assert 0.08 < sum(clock.pauses) <= 0.1


def test_an_error_that_is_not_retryable_ends_the_stream() -> None:
    fake = FakeTransport(fail_with=InferenceError("broken"))
    with Client(transport=fake) as clip, pytest.raises(InferenceError):
        list(clip.stream_texts(texts(500)))
    assert len(fake.requests) <= 9


def keys_until(error: type[Exception], stream: Iterator[ItemOutcome], match: str) -> list[object]:
    """Return the keys of the outcomes that a stream yields before it raises an error.

    Args:
        error: the class of the expected error.
        stream: the stream.
        match: a pattern that the message of the error must match.
    """
    keys: list[object] = []

    def read() -> None:
        for outcome in stream:
            keys.append(outcome.key)

    with pytest.raises(error, match=match):
        read()
    return keys


@pytest.mark.parametrize("count", [0, 1, 60, 700])
def test_items_before_an_error_of_the_source_are_yielded(count: int) -> None:
    def source() -> Iterator[str]:
        yield from texts(count)
        raise LookupError("the source broke")

    with Client(transport=FakeTransport()) as clip:
        assert keys_until(LookupError, clip.stream_texts(source()), "the source broke") == list(texts(count))


def test_items_before_an_invalid_item_are_yielded() -> None:
    items: list[Any] = [*texts(40), 3, "x"]
    with Client(transport=FakeTransport()) as clip:
        keys = keys_until(InvalidArgumentError, clip.stream_texts(items), "text 40: expected a text as str")
    assert keys == items[:40]


def test_closing_a_stream_ends_it() -> None:
    with Client(transport=FakeTransport()) as clip:
        stream = clip.stream_texts(texts(10**9))
        assert next(stream).index == 0
        stream.close()
        assert list(stream) == []


@pytest.mark.parametrize("item", [3, ("key",), ("a", "b", "c")])
def test_an_invalid_item_is_named_by_its_position(item: object) -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="(text|item) 2: "):
        list(clip.stream_texts(["a", "b", item]))  # type: ignore[list-item]


def test_a_window_of_zero_is_refused() -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="at least 1"):
        list(clip.stream_texts(texts(3), window=0))


def test_memory_does_not_grow_with_the_stream() -> None:
    class Forgetful(FakeTransport):
        """A fake transport that forgets its requests. `FakeTransport` keeps all requests."""

        def send(self, request, timeout):  # type: ignore[no-untyped-def]
            self.requests.clear()
            return super().send(request, timeout)

    with Client(transport=Forgetful(embedding_dimension=8)) as clip:
        stream = clip.stream_texts(texts(2_000), window=64)
        tracemalloc.start()
        try:
            for _ in range(250):
                next(stream)
            early = tracemalloc.get_traced_memory()[0]
            for _ in stream:
                pass
            late = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert late < early + 100_000  # keeping the 1,750 outcomes would take several times as much


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_progress_is_shown_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import fcntl
    import pty
    import select
    import termios

    def stream() -> None:
        with Client(transport=FakeTransport()) as clip:
            assert len(list(clip.stream_texts(["a"] * 70, progress=True))) == 70

    stream()
    assert capfd.readouterr().err == ""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        stream()
        monkeypatch.undo()
        shown = b""
        while b"70/70" not in shown:  # the output comes in pieces, and reading more of them would block
            assert select.select([master], [], [], 10)[0], shown
            shown += os.read(master, 100_000)
    os.close(master)

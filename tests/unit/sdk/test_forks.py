"""Clients in forked processes. If calls are in flight at the moment of a fork, the child process refuses calls."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.blocking import Make
from tuwen import Client, ForkError
from tuwen._transport import InferRequest
from tuwen.testing import FakeTransport

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_a_fork(work: Callable[[], object]) -> str:
    """Run a function in a forked process. Return its result as text, or the name of the class of its error."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            said = str(work())
        except BaseException as error:
            said = type(error).__name__
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


class Held(FakeTransport):
    """A fake transport that holds its responses until the test sets `let_go`.

    Attributes:
        arrived: the event that is set when a request has arrived.
        let_go: the event that releases the responses.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.let_go = threading.Event(), threading.Event()

    def send(self, request: InferRequest, timeout: float) -> Any:
        self.arrived.set()
        assert self.let_go.wait(60)
        return super().send(request, timeout)


@contextmanager
def call_in_flight() -> Iterator[None]:
    held = Held()
    with Client(transport=held) as clip:
        thread = threading.Thread(target=lambda: clip.embed_texts(["猫"]))
        thread.start()
        try:
            assert held.arrived.wait(60)
            yield
        finally:
            held.let_go.set()
            thread.join()


def shape(clip: Any) -> tuple[int, ...]:
    found: tuple[int, ...] = clip.embed_texts(["猫", "狗"]).shape
    return found


def test_a_client_works_in_parent_and_child_after_a_fork_between_calls() -> None:
    with Client(transport=FakeTransport()) as clip:
        shape(clip)
        assert in_a_fork(lambda: shape(clip)) == "(2, 512)"
        assert shape(clip) == (2, 512)


def test_every_client_refuses_calls_in_a_process_that_was_forked_during_a_call(make: Make) -> None:
    calls: list[Callable[[Any], object]] = [
        shape,
        lambda clip: list(clip.stream_texts(["猫"])),
        lambda clip: clip.is_ready(),
        lambda clip: clip.model_card(),
    ]
    used = Client(transport=FakeTransport())
    shape(used)
    with call_in_flight():
        assert [in_a_fork(lambda call=call: call(used)) for call in calls] == ["ForkError"] * 4  # type: ignore[misc]
        for call in calls:
            assert in_a_fork(lambda call=call: call(Client(transport=FakeTransport()))) == "ForkError"  # type: ignore[misc]
        assert in_a_fork(used.close) == "None"
    assert in_a_fork(lambda: shape(used)) == "(2, 512)"
    with make(FakeTransport()) as clip:
        assert shape(clip) == (2, 512)


def test_the_child_of_a_fork_during_a_stream_cannot_continue_the_stream() -> None:
    with Client(transport=FakeTransport()) as clip:
        stream = clip.stream_texts([f"第{number}句" for number in range(200)])
        next(stream)
        assert in_a_fork(lambda: len(list(stream))) == "ForkError"
        assert in_a_fork(lambda: shape(clip)) == "ForkError"
        assert len(list(stream)) == 199
        assert in_a_fork(lambda: shape(clip)) == "(2, 512)"


def test_the_fork_error_names_the_remedy() -> None:
    def message() -> str:
        with pytest.raises(ForkError) as caught:
            shape(Client(transport=FakeTransport()))
        return str(caught.value)

    with call_in_flight():
        said = in_a_fork(message)
    assert "was forked while its parent had calls in flight" in said
    assert "fork before the first call or between calls" in said
    assert "'spawn' or 'forkserver'" in said

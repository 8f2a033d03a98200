"""Starting a server again, and when to give up: with a server that only plays its part."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import pytest

from tuwen_build.errors import ServeError, SharedMemoryError
from tuwen_build.server import supervise


class Patient:
    """A server with troubles; each restart does what it is told to."""

    def __init__(self, *restarts: Exception | None) -> None:
        self.restarts: deque[Exception | None] = deque(restarts)
        self.ill = True

    def trouble(self) -> str | None:
        if not self.ill:
            raise KeyboardInterrupt  # well again, which is all that is asked here
        return "it died"

    def restart(self) -> None:
        outcome = self.restarts.popleft()
        if outcome is not None:
            raise outcome
        self.ill = False


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr("tuwen_build.server._supervisor.time.sleep", taken.append)
    return taken


def test_one_that_does_not_start_is_tried_again_after_longer_and_longer_pauses(pauses: list[float]) -> None:
    said: list[str] = []
    full = SharedMemoryError("/dev/shm is full")
    with pytest.raises(KeyboardInterrupt):
        supervise(cast("Any", Patient(full, full, None)), restarts=3, say=said.append)
    assert [pause for pause in pauses if pause > 1] == [2.0, 4.0]
    assert said[0] == "it died\nstarting again"
    assert said[1] == said[2] == "/dev/shm is full\nstarting again"
    assert said[3].startswith("ready again")


def test_after_too_many_tries_the_last_trouble_is_told(pauses: list[float]) -> None:
    full = SharedMemoryError("/dev/shm is full")
    with pytest.raises(ServeError, match=r"/dev/shm is full \(2 restarts within ten minutes have not mended it\)"):
        supervise(cast("Any", Patient(full, full)), restarts=2, say=lambda _: None)
    assert pauses

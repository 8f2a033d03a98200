"""The number of restarts and the pauses between them, with a fake server."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

import pytest

from tests.support.stand_in import HurriedClock
from tuwen_server import supervise
from tuwen_server.errors import ServeError, SharedMemoryError

FULL = SharedMemoryError("/dev/shm is full")


class Patient:
    """A fake server that fails. Each restart has the next of the given outcomes."""

    def __init__(self, *restarts: Exception | None) -> None:
        self.restarts: deque[Exception | None] = deque(restarts)
        self.ill = True

    def trouble(self) -> str | None:
        if not self.ill:
            raise KeyboardInterrupt  # the server is well again, and the test is over
        return "it died"

    def refresh(self) -> list[str]:
        return []

    def restart(self) -> None:
        outcome = self.restarts.popleft()
        if outcome is not None:
            raise outcome
        self.ill = False


def test_the_pauses_between_failed_starts_double_up_to_half_a_minute(clock: HurriedClock) -> None:
    said: list[str] = []
    patient = Patient(*[FULL] * 6, None)
    with pytest.raises(KeyboardInterrupt):
        supervise(cast("Any", patient), restarts=7, say=said.append, clock=clock)
    assert [pause for pause in clock.pauses if pause > 1] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert said[0] == "it died\nstarting again"
    assert said[1:7] == ["/dev/shm is full\nstarting again"] * 6
    assert said[7].startswith("ready again")


def test_too_many_restarts_raise_the_last_fault(clock: HurriedClock) -> None:
    with pytest.raises(ServeError, match=r"/dev/shm is full \(2 restarts within ten minutes did not help\)"):
        supervise(cast("Any", Patient(FULL, FULL)), restarts=2, say=lambda _: None, clock=clock)


def test_without_restarts_the_first_fault_is_raised(clock: HurriedClock) -> None:
    with pytest.raises(ServeError, match="^it died$"):
        supervise(cast("Any", Patient()), restarts=0, say=lambda _: None, clock=clock)


def test_restarts_of_more_than_ten_minutes_ago_do_not_count(clock: HurriedClock) -> None:
    patient = Patient(FULL, FULL, FULL, None)

    def a_long_time_passes() -> None:
        clock.time += 601

    clock.on_pause = a_long_time_passes
    with pytest.raises(KeyboardInterrupt):
        supervise(cast("Any", patient), restarts=1, say=lambda _: None, clock=clock)
    assert not patient.restarts

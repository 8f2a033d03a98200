"""Requests without an answer in time: they count in the rate and in the percentiles of a measurement."""

from __future__ import annotations

import asyncio
import itertools
import math

from tests.support import virtual_time
from tuwen import DeadlineExceededError, OverloadedError
from tuwen_server.traffic import Answers, send_at
from tuwen_server.traffic._load import _rate


def test_a_service_that_falls_silent_is_slow_in_every_percentile() -> None:
    """After a service falls silent, its unanswered requests raise the p99 and lower the rate.

    The scripted service answers forty requests without delay, and all later requests only after the measurement.
    """
    numbers = itertools.count()
    over = asyncio.Event()

    async def ask() -> None:
        if next(numbers) >= 40:
            await over.wait()

    async def measure() -> Answers:
        sending = asyncio.create_task(send_at(100, ask, seconds=1.0))
        asyncio.get_running_loop().call_later(1.5, over.set)
        return await sending

    answers = virtual_time.run(measure())
    assert len(answers.latencies) == next(numbers)
    assert answers.quantile(0.99) > 0.3
    assert answers.rate < 70


def test_the_rate_is_zero_if_every_answer_came_too_late() -> None:
    async def ask() -> None:
        await asyncio.sleep(0.4)

    answers = virtual_time.run(send_at(100, ask, seconds=0.3))
    assert answers.latencies
    assert answers.rate == 0.0


def test_refused_and_failed_requests_are_infinitely_late() -> None:
    errors = itertools.cycle([None, OverloadedError("full"), None, DeadlineExceededError("late")])

    async def ask() -> None:
        if error := next(errors):
            raise error

    answers = virtual_time.run(send_at(400, ask, seconds=0.25))
    assert answers.quantile(0.4) < 0.2
    assert answers.quantile(0.99) == math.inf
    assert Answers(1.0, (), (0.1,)).quantile(0.5) == math.inf
    assert math.isnan(Answers(1.0, ()).quantile(0.5))


def test_silence_at_the_end_of_a_measurement_lowers_the_rate() -> None:
    times = [second / 100 for second in range(1, 401)]
    assert math.isclose(_rate(times, 0.0, 8.0), 50, rel_tol=0.02)
    assert math.isclose(_rate(times, 0.0, 4.0), 100, rel_tol=0.02)
    bursts = sorted(0.5 * burst for burst in range(1, 9) for _ in range(10))
    assert math.isclose(_rate(bursts, 0.0, 4.4), 20, rel_tol=0.2)
    assert _rate([], 0.0, 4.0) == 0.0

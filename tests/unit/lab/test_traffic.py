"""The load with which a service is measured: photographs, queries, callers, and requests at a given rate."""

from __future__ import annotations

import asyncio
import io
import itertools
import threading

import pytest
from PIL import Image

from tests.support import virtual_time
from tests.support.clocks import ManualClock
from tuwen import OverloadedError
from tuwen_server.traffic import Answers, photographs, queries, saturate, send_at


class TestWork:
    def test_photographs_are_different_jpegs_of_one_size(self) -> None:
        found = photographs(8, size=(320, 240))
        assert len(set(found)) == 8
        for data in found:
            with Image.open(io.BytesIO(data)) as image:
                assert (image.format, image.size, image.mode) == ("JPEG", (320, 240), "RGB")
        assert photographs(8, size=(320, 240)) == found
        assert photographs(8, size=(320, 240), seed=1) != found

    def test_queries_are_different_and_as_long_as_people_type_them(self) -> None:
        found = queries(20_000)
        assert len(set(found)) == 20_000
        assert {len(query) for query in found} == set(range(4, 21))
        assert queries(100, seed=0) == found[:100]


class Service:
    """A scripted service that waits for a request of every caller, and then answers all of them at the same time.

    Args:
        callers: the number of callers.
        seconds: the time from the last request to the answers, in seconds of the service's clock.
    """

    def __init__(self, callers: int, seconds: float) -> None:
        self.clock = ManualClock()
        self._together = threading.Barrier(callers, lambda: self.clock.pause(seconds), timeout=60)

    def ask(self) -> None:
        self._together.wait()


class TestCallers:
    def test_every_caller_waits_for_its_answer_before_it_asks_again(self) -> None:
        service = Service(callers=4, seconds=0.02)
        answers = saturate(service.ask, concurrency=4, seconds=0.48, warmup=0.11, clock=service.clock.now)
        assert len(answers.latencies) == 4 * 25
        assert answers.latencies == pytest.approx([0.02] * 100)
        assert answers.rate == pytest.approx(200, rel=0.02)
        assert answers.quantile(0.5) == pytest.approx(0.02)

    def test_a_refused_caller_asks_again(self) -> None:
        service, numbers = Service(callers=2, seconds=0.01), itertools.count()

        def ask() -> None:
            service.ask()
            if next(numbers) % 4 == 0:
                raise OverloadedError("full")

        answers = saturate(ask, concurrency=2, seconds=0.495, warmup=0.1, clock=service.clock.now)
        assert len(answers.refused) == 30
        assert answers.refused == pytest.approx([0.01] * 30)
        assert answers.rate == pytest.approx(150, rel=0.05)

    @pytest.mark.parametrize(("seconds", "batches"), [(0.44, 5), (0.52, 6), (0.61, 7)])
    def test_the_rate_does_not_depend_on_where_in_a_batch_the_time_ends(self, seconds: float, batches: int) -> None:
        """The rate is 80 requests a second, whether the measurement ends early or late in a batch.

        The service answers eight requests every 0.1 seconds, so one batch more or less is a fifth of all answers.
        """
        service = Service(callers=8, seconds=0.1)
        answers = saturate(service.ask, concurrency=8, seconds=seconds, warmup=0.05, clock=service.clock.now)
        assert len(answers.latencies) == 8 * batches
        assert answers.rate == pytest.approx(80, rel=0.1)

    def test_a_slow_service_is_measured_until_every_caller_had_a_few_answers(self) -> None:
        service = Service(callers=1, seconds=10.0)
        answers = saturate(service.ask, concurrency=1, seconds=1.0, warmup=0.0, clock=service.clock.now)
        assert answers.latencies == (10.0,) * 4


class TestRate:
    def test_a_stall_delays_all_requests_that_were_due_during_it(self) -> None:
        """Every request that was due during a stall is late, as at an open-loop load.

        In a closed loop, whose callers wait, the same stall would be one slow request (coordinated omission).
        """
        asked: list[float] = []

        async def measure() -> Answers:
            busy = asyncio.Lock()

            async def ask() -> None:
                asked.append(asyncio.get_running_loop().time())
                number = len(asked)
                async with busy:
                    await asyncio.sleep(0.5 if number == 20 else 0.0)

            return await send_at(100, ask, seconds=1.0)

        answers = virtual_time.run(measure())
        begin = asked[19]
        during = [time for time in asked if begin <= time < begin + 0.5]
        late = [latency for latency in answers.latencies if latency > 1e-6]
        assert late == pytest.approx([begin + 0.5 - time for time in during])
        assert len(asked) > len(during) + 20
        assert len(during) > 40

    def test_requests_are_sent_on_time_while_many_are_in_flight(self) -> None:
        sent: list[float] = []

        async def measure() -> Answers:
            async def ask() -> None:
                sent.append(asyncio.get_running_loop().time())
                await asyncio.sleep(10.0)

            return await send_at(100, ask, seconds=1.0)

        answers = virtual_time.run(measure())
        assert len(sent) > 80
        assert sent[-1] < 1.1 + 1e-6
        assert answers.latencies == pytest.approx([10.0] * len(sent))
        assert answers.rate == 0.0  # every answer came after the measurement

    def test_refusals_are_counted_apart_from_answers_and_failures(self) -> None:
        numbers = itertools.count()

        async def ask() -> None:
            await asyncio.sleep(0.01)
            if next(numbers) % 2:
                raise OverloadedError("full")

        answers = virtual_time.run(send_at(200, ask, seconds=0.5))
        assert answers.failed == 0
        assert len(answers.latencies) > 40
        assert abs(len(answers.latencies) - len(answers.refused)) <= 1
        assert answers.refused == pytest.approx([0.01] * len(answers.refused))

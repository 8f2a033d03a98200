"""What services are measured with: the work, and those who send it."""

from __future__ import annotations

import asyncio
import io
import itertools
import time

import pytest
from PIL import Image

from tuwen import OverloadedError
from tuwen_build.traffic import Answers, photographs, queries, saturate, send_at


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


class TestLoad:
    def test_callers_that_wait_see_the_service_alone(self) -> None:
        answers = saturate(lambda: time.sleep(0.02), concurrency=4, seconds=0.5, warmup=0.1)
        assert answers.rate == pytest.approx(200, rel=0.3)
        assert answers.quantile(0.5) == pytest.approx(0.02, rel=0.5)

    def test_who_is_refused_asks_again(self) -> None:
        numbers = itertools.count()

        def ask() -> None:
            time.sleep(0.01)
            if next(numbers) % 4 == 0:
                raise OverloadedError("full")

        answers = saturate(ask, concurrency=2, seconds=0.5, warmup=0.1)
        assert answers.rate == pytest.approx(150, rel=0.3)
        assert len(answers.refused) == pytest.approx(30, rel=0.3)

    @pytest.mark.parametrize("seconds", [0.45, 0.55, 0.65])
    def test_the_rate_does_not_depend_on_where_in_a_batch_the_time_ends(self, seconds: float) -> None:
        """Eight at a time every 0.1 seconds: one batch more or less would be a fifth of them."""
        start = time.perf_counter()

        def ask() -> None:
            time.sleep(0.1 - (time.perf_counter() - start) % 0.1)

        answers = saturate(ask, concurrency=8, seconds=seconds, warmup=0.05)
        assert answers.rate == pytest.approx(80, rel=0.1)

    def test_a_stall_is_felt_by_all_that_came_during_it(self) -> None:
        """Coordinated omission: one request a stall would look like one slow request."""
        numbers = itertools.count()

        async def measure() -> Answers:
            busy = asyncio.Lock()

            async def ask() -> None:
                async with busy:
                    await asyncio.sleep(0.5 if next(numbers) == 20 else 0.0)

            return await send_at(100, ask, seconds=1.0)

        answers = asyncio.run(measure())
        assert len(answers.latencies) == pytest.approx(100, rel=0.35)
        assert sum(latency > 0.1 for latency in answers.latencies) > 20

    def test_refusals_are_counted_apart(self) -> None:
        numbers = itertools.count()

        async def ask() -> None:
            if next(numbers) % 2:
                raise OverloadedError("full")

        answers = asyncio.run(send_at(200, ask, seconds=0.5))
        assert answers.failed == 0
        assert abs(len(answers.latencies) - len(answers.refused)) <= 1
        assert max(answers.refused) < 0.2

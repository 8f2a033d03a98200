"""The comparison of the HTTP edge with the SDK: the order of measurements, and the table."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("torch")

from tests.support.edge import edge_in_a_thread
from tuwen_loadtest.bench import http_edge
from tuwen_loadtest.bench.http_edge import Measured, edge_lines, measure_in_turn, photographs


def test_every_contestant_is_measured_once_in_each_round() -> None:
    asked: dict[str, list[int]] = {"a": [], "b": []}

    def contestant(name: str) -> Any:
        async def connect() -> tuple[Callable[[int], Awaitable[None]], Callable[[], Awaitable[None]]]:
            async def call(number: int) -> None:
                asked[name].append(number)
                await asyncio.sleep(0)

            async def end() -> None:
                return

            return call, end

        return connect

    found = measure_in_turn([(name, contestant(name)) for name in asked], callers=2, rounds=2, seconds=0.01)
    assert set(found) == {"a", "b"}
    for numbers in asked.values():
        assert {0, 1} <= set(numbers)


def test_the_table_compares_with_the_first_contestant() -> None:
    lines = list(edge_lines("texts", {"the SDK": Measured(100, 5), "the edge": Measured(80, 6.5)}))
    assert lines[2] == "| the SDK | 100 | 1.00 | 5.00 | +0.00 |"
    assert lines[3] == "| the edge | 80 | 0.80 | 6.50 | +1.50 |"


def test_the_edge_answers_the_requests_of_the_comparison() -> None:
    pictures = photographs(2, 64)
    with edge_in_a_thread() as address:
        port = int(address.rpartition(":")[2])
        bodies = (http_edge._text_body, http_edge._base64_body(pictures), http_edge._form_body(pictures))
        for body in bodies:
            contestants = [("edge", http_edge._edge(port, body))]
            assert measure_in_turn(contestants, callers=2, rounds=1, seconds=0.05)["edge"].rate > 0

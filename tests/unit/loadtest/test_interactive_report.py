"""The tables of bursts and of interactive calls during a bulk stream, from known measurements."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import pytest

from tuwen_loadtest.bench.interactive import Beside, Burst, in_turn, interactive_lines

PLAIN = "`dynamic_batching { }`"


def test_bursts_are_compared_with_default_batching() -> None:
    burst = Burst("texts", 2, {"SDK": [0.02, 0.03, 0.03, 0.09], PLAIN: [0.02, 0.02, 0.02, 0.06]})
    assert burst.ratio("SDK", 0.5) == pytest.approx(1.5)
    assert burst.ratio("SDK", 0.99) == pytest.approx(1.5)
    lines = list(interactive_lines([burst], []))
    assert lines[0] == f"| calls at the same time: median; p99 | SDK, ms | {PLAIN}, ms | SDK: ratio |"
    assert lines[2] == "| 2 texts | 30; 90 | 20; 60 | 1.50; 1.50 |"


def test_calls_during_a_stream_are_compared_with_calls_without_a_stream() -> None:
    beside = Beside("texts", "images", alone=0.02, beside=0.05, stream_alone=10.0, stream_beside=8.0)
    lines = list(interactive_lines([], [beside]))
    assert "| one text during a stream of images | 20 | 50 | 2.5 | 10.0 | 8.0 |" in lines


def test_each_way_of_sending_follows_each_other_way_equally_often() -> None:
    rounds = [in_turn(["SDK", "plain requests", PLAIN], number) for number in range(6)]
    assert all(sorted(order) == sorted(rounds[0]) for order in rounds)
    followers = Counter(chain.from_iterable(pairwise(order) for order in rounds))
    assert len(followers) == 6
    assert len(set(followers.values())) == 1
    assert Counter(order[0] for order in rounds) == {"SDK": 2, "plain requests": 2, PLAIN: 2}

"""Queries of a load test: every rank has its own, and every repetition asks others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuwen_loadtest._payloads import Payloads
from tuwen_loadtest.options import PayloadOptions
from tuwen_repository.samples import sample
from tuwen_server.traffic import distinct_query
from tuwen_server.traffic._payloads import _WORDS

ASKED = 2_400
PICTURES = sample("cat.jpg").parent


def asked(seed: int, *, worker: int = 0, skew: float = 1.0, queries: Path | None = None) -> list[str]:
    payloads = Payloads(PayloadOptions(PICTURES, queries, skew, seed, worker))
    return [payloads.query() for _ in range(ASKED)]


def test_no_word_is_the_beginning_of_another() -> None:
    """Otherwise two sequences of words could be one text."""
    assert [(one, other) for one in _WORDS for other in _WORDS if one != other and other.startswith(one)] == []


def test_every_rank_of_every_repetition_has_its_own_query() -> None:
    ranks = [*range(20_000), *range(990_000, 1_000_000)]
    found = {distinct_query(rank, seed=seed) for seed in range(3) for rank in ranks}
    assert len(found) == 3 * len(ranks)
    assert all(4 <= len(query) <= 24 for query in found)
    assert distinct_query(7, seed=1) == distinct_query(7, seed=1)


def test_a_repetition_finds_nothing_in_the_cache_of_the_one_before() -> None:
    """The server's cache answers the same share of the queries in each repetition."""
    seen: set[str] = set()
    hits = []
    for seed in range(3):
        found = 0
        for query in asked(seed):
            found += query in seen
            seen.add(query)
        hits.append(found / ASKED)
    assert hits == pytest.approx([hits[0]] * 3, abs=0.03)


def test_workers_ask_the_same_queries_in_different_orders() -> None:
    first, second = asked(5, worker=0), asked(5, worker=1)
    assert first[:50] != second[:50]
    assert {distinct_query(rank, seed=5) for rank in range(5)} <= set(first) & set(second)


def test_queries_of_a_file_are_the_same_in_every_repetition(tmp_path: Path) -> None:
    (tmp_path / "queries.txt").write_text("猫\n狗\n", encoding="utf-8")
    assert set(asked(0, queries=tmp_path / "queries.txt")) == set(asked(1, queries=tmp_path / "queries.txt"))

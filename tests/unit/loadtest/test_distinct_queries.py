"""The generated queries of a load test: all ranks and all repetitions have different queries."""

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
    """No word of the generated queries is the beginning of another word.

    Otherwise two different sequences of words could be the same text.
    """
    assert [(one, other) for one in _WORDS for other in _WORDS if one != other and other.startswith(one)] == []


def test_all_ranks_and_repetitions_have_different_queries() -> None:
    ranks = [*range(20_000), *range(990_000, 1_000_000)]
    found = {distinct_query(rank, seed=seed) for seed in range(3) for rank in ranks}
    assert len(found) == 3 * len(ranks)
    assert all(4 <= len(query) <= 24 for query in found)
    assert distinct_query(7, seed=1) == distinct_query(7, seed=1)


def test_the_cache_of_the_server_knows_no_query_of_a_new_repetition() -> None:
    """In every repetition, the server's cache answers the same share of the queries."""
    seen: set[str] = set()
    hits = []
    for seed in range(3):
        found = 0
        for query in asked(seed):
            found += query in seen
            seen.add(query)
        hits.append(found / ASKED)
    assert hits == pytest.approx([hits[0]] * 3, abs=0.03)


def test_workers_send_the_same_queries_in_different_orders() -> None:
    first, second = asked(5, worker=0), asked(5, worker=1)
    assert first[:50] != second[:50]
    assert {distinct_query(rank, seed=5) for rank in range(5)} <= set(first) & set(second)


def test_queries_of_a_file_are_the_same_in_every_repetition(tmp_path: Path) -> None:
    (tmp_path / "queries.txt").write_text("猫\n狗\n", encoding="utf-8")
    assert set(asked(0, queries=tmp_path / "queries.txt")) == set(asked(1, queries=tmp_path / "queries.txt"))

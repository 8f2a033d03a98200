"""The cache of the `pytorch` backend: the rows that it computes, stores and removes."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tuwen_server

BACKEND = Path(tuwen_server.__file__).parent / "backends" / "pytorch"
LENGTH, DIMENSION = 8, 4
ENTRY = 2 * LENGTH * 8 + DIMENSION * 4 + 450  # bytes of one entry: the keys of both inputs, the row, Python's objects


class Encoder:
    """A fake encoder: its rows depend on the ids alone, and every call is recorded."""

    def __init__(self) -> None:
        self.computed: list[list[int]] = []

    def __call__(self, inputs: list[NDArray[Any]]) -> NDArray[Any]:
        ids = inputs[0]
        self.computed.append(ids[:, 0].tolist())
        return np.repeat(ids[:, :1], DIMENSION, axis=1).astype(np.float32)


class Caches:
    """A factory of caches, which adds up the hits and misses that the caches count."""

    def __init__(self, row_cache: Any) -> None:
        self._row_cache = row_cache
        self.hits = self.misses = 0

    def count(self, hits: int, misses: int) -> None:
        self.hits += hits
        self.misses += misses

    def of(self, entries: int) -> Any:
        """Return a cache whose memory is enough for a number of entries."""
        return self._row_cache.RowCache(entries * ENTRY, self.count)


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Caches]:
    monkeypatch.syspath_prepend(BACKEND)
    import row_cache

    yield Caches(row_cache)
    del sys.modules["row_cache"]


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


def texts(*numbers: int) -> list[NDArray[np.int64]]:
    """Return the ids and the mask of one text for each number. All ids of a text equal its number."""
    ids = np.repeat(np.array(numbers, np.int64).reshape(-1, 1), LENGTH, axis=1)
    return [ids, np.ones_like(ids)]


def firsts(rows: NDArray[Any]) -> list[float]:
    return list(rows[:, 0].tolist())


def known(cache: Any, *numbers: int) -> bool:
    """Return whether the cache answers these texts without the encoder."""

    def compute(_: list[NDArray[Any]]) -> NDArray[Any]:
        raise LookupError

    try:
        return firsts(cache.rows(texts(*numbers), compute)) == list(numbers)
    except LookupError:
        return False


def test_only_the_unknown_rows_of_a_batch_are_computed(caches: Caches, encoder: Encoder) -> None:
    cache = caches.of(100)
    cache.rows(texts(*range(20)), encoder)
    rows = cache.rows(texts(*range(31, -1, -1)), encoder)
    assert firsts(rows) == list(range(31, -1, -1))
    assert [len(batch) for batch in encoder.computed] == [20, 12]
    assert (caches.hits, caches.misses) == (20, 32)


def test_equal_rows_of_a_batch_are_computed_once(caches: Caches, encoder: Encoder) -> None:
    assert firsts(caches.of(100).rows(texts(7, 8, 7, 7), encoder)) == [7, 8, 7, 7]
    assert encoder.computed == [[7, 8]]
    assert (caches.hits, caches.misses) == (2, 2)


def test_rows_that_differ_in_any_input_are_different(caches: Caches, encoder: Encoder) -> None:
    cache = caches.of(100)
    ids, mask = texts(7)
    shorter = mask.copy()
    shorter[0, -1] = 0
    cache.rows([ids, mask], encoder)
    cache.rows([ids, shorter], encoder)
    cache.rows([np.concatenate([ids, mask], axis=1), mask[:, :0]], encoder)  # the same bytes, divided otherwise
    assert encoder.computed == [[7], [7], [7]]


def test_rows_of_another_length_do_not_share_entries(caches: Caches, encoder: Encoder) -> None:
    cache = caches.of(100)
    ids, mask = texts(7)
    cache.rows([ids, mask], encoder)
    cache.rows([ids.reshape(2, -1), mask.reshape(2, -1)], encoder)
    assert cache.rows([ids, mask], encoder).shape == (1, DIMENSION)
    assert encoder.computed == [[7], [7]]


def test_the_rows_that_were_unused_for_longest_make_room(caches: Caches, encoder: Encoder) -> None:
    cache = caches.of(2)
    for number in (1, 2, 1, 3):
        cache.rows(texts(number), encoder)
    assert known(cache, 1, 3)
    assert not known(cache, 2)


def test_a_batch_larger_than_the_cache_is_answered(caches: Caches, encoder: Encoder) -> None:
    cache = caches.of(2)
    assert firsts(cache.rows(texts(1, 2, 3, 1), encoder)) == [1, 2, 3, 1]
    assert not known(cache, 1)
    assert known(cache, 2, 3)


def test_a_cache_takes_no_more_memory_than_it_may(caches: Caches, encoder: Encoder) -> None:
    entries = 2000
    tracemalloc.start()
    try:
        cache = caches.of(entries)
        before, _ = tracemalloc.get_traced_memory()
        for start in range(1, 3 * entries, 32):
            cache.rows(texts(*range(start, start + 32)), encoder)
        encoder.computed.clear()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before <= entries * ENTRY


def test_a_failed_batch_leaves_no_entry(caches: Caches, encoder: Encoder) -> None:
    def fail(_: list[NDArray[Any]]) -> NDArray[Any]:
        raise RuntimeError("out of memory")

    cache = caches.of(100)
    with pytest.raises(RuntimeError, match="out of memory"):
        cache.rows(texts(1, 2), fail)
    assert (caches.hits, caches.misses) == (0, 0)
    assert not known(cache, 1)
    assert firsts(cache.rows(texts(1, 2), encoder)) == [1, 2]


def test_a_caller_that_writes_into_its_rows_does_not_change_the_cache(caches: Caches, encoder: Encoder) -> None:
    cache = caches.of(100)
    for _ in range(3):
        rows = cache.rows(texts(1, 2), encoder)
        assert firsts(rows) == [1, 2]
        rows[:] = -1


def test_each_row_of_a_warm_up_is_computed_each_time(caches: Caches, encoder: Encoder) -> None:
    """Rows of zeros, which Triton's warm-up sends, are all computed each time, although they are equal.

    Otherwise, the warm-up with a full batch would compute a single row.
    """
    cache = caches.of(100)
    zeros = [np.zeros((3, LENGTH), np.int64)] * 2
    for _ in range(2):
        assert cache.rows(zeros, encoder).shape == (3, DIMENSION)
    assert encoder.computed == [[0, 0, 0], [0, 0, 0]]
    assert (caches.hits, caches.misses) == (0, 0)


def test_an_empty_batch_goes_to_the_encoder(caches: Caches, encoder: Encoder) -> None:
    nothing = [np.zeros((0, LENGTH), np.int64)] * 2
    assert caches.of(100).rows(nothing, encoder).shape == (0, DIMENSION)

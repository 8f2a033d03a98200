"""The recall of searches in quantized vectors, which the table of docs/guides/bulk.md shows."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quantization_table import best, recall, rescored, scores


def unit_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, 64)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_recall_is_the_share_that_was_found() -> None:
    expected = np.array([[1, 2], [3, 4]])
    assert recall(expected, np.array([[2, 1], [4, 9]])) == pytest.approx(0.75)


def test_candidates_are_ordered_by_their_exact_scores() -> None:
    exact = np.float32([[0.1, 0.9, 0.5, 0.7]])
    assert rescored(np.array([[0, 2, 3]]), exact, 2).tolist() == [[3, 2]]


@pytest.mark.parametrize("form", ["int8", "uint8", "binary", "ubinary"])
def test_each_form_finds_a_vector_itself(form: str) -> None:
    vectors = unit_vectors(50, seed=1)
    assert best(scores(form, vectors, vectors), 1)[:, 0].tolist() == list(range(50))  # type: ignore[arg-type]


@pytest.mark.parametrize(("signed", "unsigned"), [("int8", "uint8"), ("binary", "ubinary")])
def test_signed_and_unsigned_forms_score_alike(signed: str, unsigned: str) -> None:
    queries, vectors = unit_vectors(5, seed=2), unit_vectors(50, seed=3)
    found = [scores(form, queries, vectors) for form in (signed, unsigned)]  # type: ignore[arg-type]
    np.testing.assert_allclose(*found, atol=1e-6)

"""Smaller forms of embeddings: their values, and the recall of a search with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tuwen import InvalidArgumentError
from tuwen_files.quantization import quantize


def unit_vectors(count: int, dimension: int = 512, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_byte_forms_hold_a_byte_per_component() -> None:
    found = quantize(np.float32([[0.5, -0.25, 0.0, 0.001]]), "int8")
    assert (found.dtype, found.tolist()) == (np.int8, [[127, -64, 0, 0]])
    shifted = quantize(np.float32([[0.5, -0.25, 0.0, 0.001]]), "uint8")
    assert (shifted.dtype, shifted.tolist()) == (np.uint8, [[255, 64, 128, 128]])


def test_binary_forms_hold_a_bit_per_component() -> None:
    vector = np.float32([1, -1, 1, 1, 0, -1, -1, 1, 1])
    assert quantize(vector, "ubinary").tolist() == [0b10110001, 0b10000000]
    signed = quantize(vector, "binary")
    assert (signed.dtype, signed.tolist()) == (np.int8, [0b10110001 - 128, 0])


def test_a_single_vector_is_converted_like_a_row() -> None:
    vectors = unit_vectors(3)
    for form in ("int8", "uint8", "binary", "ubinary"):
        assert np.array_equal(quantize(vectors, form)[1], quantize(vectors[1], form))  # type: ignore[arg-type]


def test_a_vector_of_zeros_stays_zero() -> None:
    assert not quantize(np.zeros((1, 8), np.float32), "int8").any()


@given(arrays(np.float32, (4, 16), elements=st.floats(-1, 1, width=32)))
def test_the_cosine_of_bytes_is_close(vectors: np.ndarray) -> None:
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    kept = vectors[norms > 1e-3]
    found = quantize(kept, "int8").astype(np.float64)
    assert np.all(np.abs(found) <= 127)
    for vector, quantised in zip(kept.astype(np.float64), found, strict=True):
        cosine = vector @ quantised / np.linalg.norm(vector) / np.linalg.norm(quantised)
        assert cosine > 0.999


def test_a_search_keeps_most_neighbours() -> None:
    gallery, queries = unit_vectors(2000), unit_vectors(50, seed=1)
    exact = np.argsort(-queries @ gallery.T, axis=1)[:, :10]

    def recall(order: np.ndarray) -> float:
        return float(np.mean([len({*a} & {*b}) for a, b in zip(exact.tolist(), order.tolist(), strict=True)]) / 10)

    small = quantize(gallery, "int8").astype(np.float32)
    small /= np.linalg.norm(small, axis=1, keepdims=True)
    assert recall(np.argsort(-queries @ small.T, axis=1)[:, :10]) > 0.95
    bits = np.unpackbits(quantize(gallery, "ubinary"), axis=1).astype(np.int16)
    asked = np.unpackbits(quantize(queries, "ubinary"), axis=1).astype(np.int16)
    distances = np.abs(asked[:, None] - bits[None]).sum(axis=2)
    assert recall(np.argsort(distances, axis=1)[:, :100]) < 1
    wide = np.argsort(distances, axis=1)[:, :100]
    assert np.mean([len({*a} & {*b}) for a, b in zip(exact.tolist(), wide.tolist(), strict=True)]) > 5


@pytest.mark.parametrize(("vectors", "form"), [([[1.0]], "int4"), ([[np.nan]], "int8"), ([[np.inf]], "binary")])
def test_refuses_an_unknown_form_and_values_that_are_not_finite(vectors: Any, form: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        quantize(np.float32(vectors), form)

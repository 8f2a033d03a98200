"""The conversion of embeddings to smaller forms, with one byte or one bit for each component.

A search with bytes needs 1/4 of the memory of float32, and a search with bits needs 1/32. Both lose recall. Measure the
loss on your own data before you index with a smaller form.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from tuwen import InvalidArgumentError

__all__ = ["Quantization", "quantize"]

Quantization: TypeAlias = Literal["int8", "uint8", "binary", "ubinary"]
"""A smaller form of embeddings: one byte per component (``int8``, ``uint8``), or one bit (``binary``, ``ubinary``)."""


def quantize(vectors: NDArray[np.float32], form: Quantization) -> NDArray[np.int8] | NDArray[np.uint8]:
    """Return embeddings in a smaller form.

    Args:
        vectors: the embeddings, float32 (n, D), or one embedding, float32 (D,).
        form: the smaller form. ``int8`` scales each vector so that its largest absolute value is 127, then
            rounds. Compare such vectors by their cosine, which does not depend on the scale; do not use dot products.
            ``uint8`` is ``int8`` plus 128. ``ubinary`` keeps the sign of each component. A byte holds eight signs, the
            first in the highest bit. ``binary`` is ``ubinary`` minus 128, as embedding services return it. Compare the
            two binary forms by Hamming distance.

    Returns:
        for ``int8`` and ``uint8``, an array (n, D). For ``binary`` and ``ubinary``, an array (n, B), where B is D / 8
        rounded up. For one embedding, an array without the axis n.

    Raises:
        InvalidArgumentError: the form is unknown, or a vector has values that are not finite.
    """
    if form not in get_args(Quantization):
        raise InvalidArgumentError(f"form: expected one of {', '.join(get_args(Quantization))}, got {form!r}")
    array = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(array).all():
        raise InvalidArgumentError("vectors: expected finite numbers, got infinity or NaN")
    if form in ("binary", "ubinary"):
        bits: NDArray[np.uint8] = np.packbits(array > 0, axis=-1)
        return bits if form == "ubinary" else _signed(bits)
    largest = np.abs(array).max(axis=-1, keepdims=True, initial=0)
    scale: NDArray[Any] = np.divide(127, largest, out=np.zeros_like(largest), where=largest > 0)
    signed: NDArray[np.int8] = np.rint(array * scale).clip(-127, 127).astype(np.int8)
    return signed if form == "int8" else _unsigned(signed)


def _signed(values: NDArray[np.uint8]) -> NDArray[np.int8]:
    return (values.astype(np.int16) - 128).astype(np.int8)


def _unsigned(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    return (values.astype(np.int16) + 128).astype(np.uint8)

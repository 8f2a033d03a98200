"""The encodings of vectors in a response: numbers, base64 or quantised."""

from __future__ import annotations

import base64
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen_files.quantization import quantize

__all__ = ["EncodingFormat", "encoded_vectors"]

EncodingFormat: TypeAlias = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]
"""``float``: numbers; ``base64``: float32 in little-endian order; other values: see `tuwen_files.quantization`."""


def encoded_vectors(vectors: NDArray[np.float32], form: EncodingFormat) -> list[Any]:
    """Return one value for each vector, ready for JSON: an array of numbers, or a string of base64."""
    if form == "float":
        return list(np.ascontiguousarray(vectors))
    if form == "base64":
        return [base64.b64encode(row).decode() for row in np.ascontiguousarray(vectors, dtype="<f4")]
    return list(quantize(vectors, form))

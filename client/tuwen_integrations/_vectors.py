"""The conversion of results to the form that the frameworks expect: lists of numbers, and one error for many items."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Literal

from tuwen import InvalidItemsError, ItemFailure, ItemOutcome, TextTruncatedWarning

__all__ = ["Vectors", "vectors_and_failures", "vectors_of"]

Vectors = list[list[float]]


def vectors_of(kind: Literal["image", "text"], outcomes: Iterable[ItemOutcome]) -> Vectors:
    """Return the vectors of a stream.

    Args:
        kind: the kind of the embedded items, for messages.
        outcomes: the outcomes of the stream. They are read to the end, so that the error names every refused item.

    Raises:
        InvalidItemsError: items were refused. The error lists each with its index and the reason.
    """
    found, failures = vectors_and_failures(outcomes)
    if failures:
        raise InvalidItemsError(kind, tuple(failures), len(found))
    return [vector for vector in found if vector is not None]


def vectors_and_failures(outcomes: Iterable[ItemOutcome]) -> tuple[list[list[float] | None], list[ItemFailure]]:
    """Return the vectors of a stream, with None for each refused item, and the list of the refused items.

    If texts were cut to the model's context length, a `TextTruncatedWarning` states their positions.
    """
    vectors: list[list[float] | None] = []
    failures: list[ItemFailure] = []
    truncated: list[int] = []
    for outcome in outcomes:
        vectors.append(outcome.embedding.tolist() if outcome.ok else None)
        if not outcome.ok:
            failures.append(outcome.error)
        if outcome.truncated:
            truncated.append(outcome.index)
    if truncated:
        shown = ", ".join(map(str, truncated[:10])) + (", ..." if len(truncated) > 10 else "")
        message = f"{len(truncated)} of {len(vectors)} texts were cut to the model's context length: {shown}"
        warnings.warn(message, TextTruncatedWarning, stacklevel=4)
    return vectors, failures

"""Streams of any length: items into requests as there is room, responses into outcomes, in order."""

from __future__ import annotations

import os
from collections.abc import Container, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from tuwen._errors import InvalidArgumentError, ItemFailure
from tuwen._requests import ITEMS_PER_REQUEST, EmbeddingBatch, InferResponse, Kind, batch_of, parse

__all__ = ["Chunk", "Chunker", "Keyed", "StreamedItem", "outcomes"]

Keyed: TypeAlias = tuple[Hashable, Any]
"""An item with the key that its outcome carries."""


@dataclass(frozen=True)
class StreamedItem:
    """What became of one item of a stream.

    Attributes:
        index: its position in the stream, from 0, skipped items counted.
        key: the one it came with; else the item itself if it is a path or a text; else its index.
        embedding: float32 (D,), a unit vector; None for an item that was refused.
        error: why it was refused; None for a good one.
        truncated: a text that was cut to the model's context length.
    """

    index: int
    key: Hashable
    embedding: NDArray[np.float32] | None
    error: ItemFailure | None
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is an embedding."""
        return self.embedding is not None


@dataclass(frozen=True)
class Chunk:
    """The items of one request, with their positions in the stream and their keys."""

    kind: Kind
    indices: tuple[int, ...]
    keys: tuple[Hashable, ...]
    items: tuple[Any, ...]

    def batch(self) -> EmbeddingBatch:
        """The request; reads files and encodes images.

        Raises:
            InvalidArgumentError: an item is of no type that can be embedded; names its position in the stream.
        """
        return batch_of(self.kind, zip(self.indices, self.items, strict=True))


class Chunker:
    """Gathers items into chunks.

    Args:
        window: the most items on their way at once.
        skip: keys of items to leave out, such as those that an earlier run has done.

    Raises:
        InvalidArgumentError: the window has no room.
    """

    def __init__(self, kind: Kind, *, window: int, max_batch_size: int, skip: Container[Hashable]) -> None:
        if window < 1:
            raise InvalidArgumentError(f"a window holds at least one item, not {window}")
        self._kind: Kind = kind
        self._size = min(ITEMS_PER_REQUEST[kind], max_batch_size, window)
        self._skip = skip
        self._count = 0
        self._gathered: list[tuple[int, Hashable, Any]] = []

    def add(self, item: Any) -> Iterator[Chunk]:
        """Take the next item of the stream; gives a chunk when one is full."""
        key, value = _keyed(item, self._count)
        if key not in self._skip:
            self._gathered.append((self._count, key, value))
        self._count += 1
        if len(self._gathered) == self._size:
            yield from self.rest()

    def rest(self) -> Iterator[Chunk]:
        """What is left when the stream ends."""
        if self._gathered:
            indices, keys, items = zip(*self._gathered, strict=True)
            self._gathered = []
            yield Chunk(self._kind, indices, keys, items)


def outcomes(chunk: Chunk, batch: EmbeddingBatch, response: InferResponse | None) -> Iterator[StreamedItem]:
    """One outcome for each item of a chunk, in order.

    Raises:
        InferenceError: the response is not what the repository promises.
    """
    failures = {failure.index: failure for failure in batch.failures}
    vectors: dict[int, NDArray[np.float32]] = {}
    truncated: set[int] = set()
    if response is not None:
        rows, refused, cut = parse(batch, response)
        vectors = dict(zip(batch.indices, rows, strict=True))
        failures |= {failure.index: failure for failure in refused}
        truncated = set(cut)
    for index, key in zip(chunk.indices, chunk.keys, strict=True):
        error = failures.get(index)
        yield StreamedItem(index, key, None if error else vectors[index], error, index in truncated)


def _keyed(item: Any, index: int) -> Keyed:
    if isinstance(item, tuple):
        if len(item) != 2:
            raise InvalidArgumentError(f"item {index}: a tuple in a stream is (key, item), not of {len(item)}")
        return item
    return cast("Hashable", item) if isinstance(item, (str, os.PathLike)) else index, item

"""Streams of any length: items into requests as there is room, responses into outcomes, in order."""

from __future__ import annotations

import os
from collections.abc import Container, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from tuwen._decoded_images import snapshot
from tuwen._errors import InvalidArgumentError, ItemFailure
from tuwen._images import ImageInput
from tuwen._pace import Pace
from tuwen._requests import EmbeddingBatch, Parsed, batch_of
from tuwen._routes import Kind, Route

__all__ = [
    "Chunk",
    "Chunker",
    "EmbeddedItem",
    "ItemOutcome",
    "KeyedImage",
    "KeyedText",
    "RefusedItem",
    "key_of",
    "outcome",
]

KeyedImage: TypeAlias = tuple[Hashable, ImageInput]
"""An image with the key that its outcome carries."""
KeyedText: TypeAlias = tuple[Hashable, str]
"""A text with the key that its outcome carries."""


@dataclass(frozen=True, eq=False)
class EmbeddedItem:
    """The outcome of an item that was embedded. Compared by identity, as it holds an array.

    Attributes:
        index: its position in the call or stream, from 0, skipped items counted.
        key: the one it came with; else the item itself if it is a path or a text; else its index.
        embedding: float32 (D,), a unit vector that cannot be written to.
        truncated: a text that was cut to the model's context length.
        error: None.
        ok: True.
    """

    index: int
    key: Hashable
    embedding: NDArray[np.float32]
    truncated: bool = False
    error: None = field(default=None, init=False)
    ok: Literal[True] = field(default=True, init=False)


@dataclass(frozen=True, eq=False)
class RefusedItem:
    """The outcome of an item that was refused. Compared by identity, as `EmbeddedItem`.

    Attributes:
        index, key: as those of `EmbeddedItem`.
        error: why it was refused.
        truncated: a text that was cut to the model's context length.
        embedding: None.
        ok: False.
    """

    index: int
    key: Hashable
    error: ItemFailure
    truncated: bool = False
    embedding: None = field(default=None, init=False)
    ok: Literal[False] = field(default=False, init=False)


ItemOutcome: TypeAlias = EmbeddedItem | RefusedItem
"""What became of one item of a call or stream. ``ok`` tells the two apart, for type checkers as well."""


@dataclass(frozen=True)
class Chunk:
    """The items of one request, with their positions in the stream and their keys."""

    indices: tuple[int, ...]
    keys: tuple[Hashable, ...]
    items: tuple[Any, ...]

    def batch(self, route: Route) -> EmbeddingBatch:
        """The request; reads files and encodes images.

        Raises:
            InvalidArgumentError: an item is of no type that can be embedded; names its position in the stream.
        """
        return batch_of(route, [((index,), item) for index, item in zip(self.indices, self.items, strict=True)])

    def outcomes(self, parsed: Parsed) -> Iterator[ItemOutcome]:
        """What became of each item, in order."""
        for index, key in zip(self.indices, self.keys, strict=True):
            yield outcome(index, key, parsed)


class Chunker:
    """Gathers items into chunks of the size that the pace asks for.

    Args:
        window: the most items on their way at once.
        skip: keys of items to leave out, such as those that an earlier run has done.

    Attributes:
        pace: how large chunks are, and how many are sent at once.
        taken: how many items were not skipped.

    Raises:
        InvalidArgumentError: the window has no room.
    """

    def __init__(self, kind: Kind, *, window: int, max_batch_size: int, skip: Container[Hashable]) -> None:
        if window < 1:
            raise InvalidArgumentError(f"a window holds at least one item, not {window}")
        self.pace = Pace(kind, window=window, max_batch_size=max_batch_size, measured=True)
        self._skip = skip
        self.taken = 0
        self._count = 0
        self._gathered: list[tuple[int, Hashable, Any]] = []

    @property
    def has_begun(self) -> bool:
        """Whether items were gathered for the next chunk."""
        return bool(self._gathered)

    def add(self, item: Any) -> Iterator[Chunk]:
        """Take the next item of the stream; gives a chunk when one is full."""
        key, value = _keyed(item, self._count)
        if key not in self._skip:
            self._gathered.append((self._count, key, snapshot(value)))
            self.taken += 1
        self._count += 1
        if len(self._gathered) >= self.pace.size:
            yield from self.rest()

    def rest(self) -> Iterator[Chunk]:
        """What is left when the stream ends."""
        if self._gathered:
            indices, keys, items = zip(*self._gathered, strict=True)
            self._gathered = []
            yield Chunk(indices, keys, items)


def outcome(index: int, key: Hashable, parsed: Parsed) -> ItemOutcome:
    """What became of one item of a batch."""
    truncated = index in parsed.truncated
    if error := parsed.failures.get(index):
        return RefusedItem(index, key, error, truncated)
    return EmbeddedItem(index, key, parsed.embeddings[index], truncated)


def key_of(item: Any, index: int) -> Hashable:
    """The item itself if it is a path or a text, else its position."""
    return cast("Hashable", item) if isinstance(item, (str, os.PathLike)) else index


def _keyed(item: Any, index: int) -> tuple[Hashable, Any]:
    if isinstance(item, tuple):
        if len(item) != 2:
            raise InvalidArgumentError(f"item {index}: a tuple in a stream is (key, item), not of {len(item)}")
        return item
    return key_of(item, index), item

"""The conversion of responses to results, and a client's cache of results.

Embeddings are NumPy arrays in the response and in the result. They are not converted in between.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen._errors import EmbeddingSpaceError, InferenceError, InvalidItemsError
from tuwen._requests import EmbeddingBatch
from tuwen._routes import Kind
from tuwen._transport import InferResponse, ModelCard, Tensor
from tuwen.failures import ItemFailure

__all__ = [
    "NAMED_EMBEDDING",
    "Cache",
    "EmbeddedItem",
    "ItemOutcome",
    "Parsed",
    "RefusedItem",
    "TextCache",
    "TextTruncatedWarning",
    "assemble",
    "outcomes",
    "parse",
    "recalled",
]

NAMED_EMBEDDING = "embedding."
"""The prefix of an output's name, in models without an output ``fingerprint``. The fingerprint follows the prefix."""

_LONGEST_TEXT = 512  # characters; longer texts are rarely repeated, and would fill the memory
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class TextTruncatedWarning(UserWarning):
    """The warning that texts were longer than the context length and were cut. It states the positions of the texts."""


@dataclass(frozen=True, eq=False)
class EmbeddedItem:
    """The outcome of an item that was embedded. Outcomes are compared by identity, because they hold an array.

    Attributes:
        index: the item's position in the call or stream, from 0. Skipped items count.
        key: the key that was passed with the item. Without a key: a path or text is its own key, and the key of any
            other item is its index.
        embedding: a read-only unit vector, float32 (D,).
        truncated: whether the item is a text that was cut to the model's context length.
        error: always None.
        ok: always true.
    """

    index: int
    key: Hashable
    embedding: NDArray[np.float32]
    truncated: bool = False
    error: None = field(default=None, init=False)
    ok: Literal[True] = field(default=True, init=False)


@dataclass(frozen=True, eq=False)
class RefusedItem:
    """The outcome of an item that was refused. Outcomes are compared by identity.

    Attributes:
        index: the item's position in the call or stream, from 0. Skipped items count.
        key: the key that was passed with the item. Without a key: a path or text is its own key, and the key of any
            other item is its index.
        error: the reason why the item was refused.
        truncated: whether the item is a text that was cut to the model's context length.
        embedding: always None.
        ok: always false.
    """

    index: int
    key: Hashable
    error: ItemFailure
    truncated: bool = False
    embedding: None = field(default=None, init=False)
    ok: Literal[False] = field(default=False, init=False)


ItemOutcome: TypeAlias = EmbeddedItem | RefusedItem
"""The outcome of one item of a call or stream. ``ok`` distinguishes the two classes, also for type checkers."""


@dataclass(frozen=True)
class Parsed:
    """The outcomes of the items of a batch.

    Attributes:
        positions: for each row of the embeddings, the position of its item in the call or stream.
        embeddings: the embeddings, float32 (n, D), read-only. Rows of refused items have no meaning.
        failures: the refused items by position, including items that were not sent.
        truncated: the positions of the texts that were cut.
    """

    positions: tuple[int, ...]
    embeddings: NDArray[np.float32]
    failures: Mapping[int, ItemFailure]
    truncated: frozenset[int]

    @property
    def items(self) -> set[int]:
        """The positions of all items of the batch."""
        return {*self.positions, *self.failures}


def parse(batch: EmbeddingBatch, response: InferResponse | None, card: ModelCard) -> Parsed:
    """Return the embedding or the failure of every item of a batch.

    Args:
        batch: the batch of items, with its request.
        response: the response to the request; None: no item could be sent.
        card: the model card that the client keeps.

    Raises:
        InferenceError: the response lacks an output, an output has an invalid shape, or the response does not state its
            embedding space.
        EmbeddingSpaceError: the vectors belong to another embedding space than the card.
    """
    failures = {failure.index: failure for failure in batch.failures}
    if response is None:
        return Parsed((), np.empty((0, card.embedding_dimension), dtype=np.float32), failures, frozenset())
    request, outputs = batch.request, _with_fingerprint(response.outputs)
    expected = request.outputs or ("embedding", "fingerprint")
    lengths = {name: len(outputs[name]) for name in expected if name in outputs}
    embedding = outputs.get("embedding")
    if not isinstance(embedding, np.ndarray) or lengths != dict.fromkeys(expected, len(batch.positions)):
        raise InferenceError(
            f"expected {len(batch.positions)} rows in each of the outputs {', '.join(expected)}, got {lengths}",
            model=request.model,
            request_id=request.request_id,
            items=batch.items,
        )
    for found in set(_strings(outputs, "fingerprint")) - {card.fingerprint}:
        raise EmbeddingSpaceError(card.fingerprint, found)
    for positions, status in zip(batch.positions, _strings(outputs, "status"), strict=False):
        if status:
            failures |= {position: ItemFailure.from_status(position, status) for position in positions}
    flags = np.ravel(np.asarray(outputs.get("truncated", ()), dtype=np.bool_))
    cut = {position for positions, flag in zip(batch.positions, flags, strict=False) if flag for position in positions}
    flat = tuple(position for positions in batch.positions for position in positions)
    rows = embedding.astype(np.float32, copy=False)
    if len(flat) > len(rows):  # a text is repeated
        rows = np.repeat(rows, [len(positions) for positions in batch.positions], axis=0)
    return Parsed(flat, _read_only(rows), failures, frozenset(cut))


def recalled(items: Sequence[Any], known: Mapping[str, tuple[NDArray[np.float32], bool]]) -> Parsed:
    """Return the outcomes of those texts of a call whose embeddings are kept.

    Args:
        items: all texts of the call.
        known: the kept embedding, float32 (D,), of each text, and whether the text was truncated. At least one of these
            texts is in the call.
    """
    positions = tuple(index for index, text in enumerate(items) if isinstance(text, str) and text in known)
    embeddings = np.stack([known[items[position]][0] for position in positions])
    truncated = frozenset(position for position in positions if known[items[position]][1])
    return Parsed(positions, _read_only(embeddings), {}, truncated)


def assemble(kind: Kind, total: int, dimension: int, parsed: Iterable[Parsed]) -> tuple[NDArray[np.float32], list[int]]:
    """Return the embeddings of a call, float32 (n, D), in the order of its items, and the positions of truncated items.

    Raises:
        InvalidItemsError: items were refused. The error lists each with its index and the reason.
    """
    embeddings = np.empty((total, dimension), dtype=np.float32)
    failures: dict[int, ItemFailure] = {}
    truncated: set[int] = set()
    for batch in parsed:
        if batch.positions:
            first, count = batch.positions[0], len(batch.positions)
            in_order = batch.positions == tuple(range(first, first + count))
            embeddings[slice(first, first + count) if in_order else list(batch.positions)] = batch.embeddings
        failures |= batch.failures
        truncated |= batch.truncated
    if failures:
        raise InvalidItemsError(kind, tuple(failures[position] for position in sorted(failures)), total)
    return embeddings, sorted(truncated)


def outcomes(keys: Iterable[tuple[int, Hashable]], parsed: Parsed) -> Iterator[ItemOutcome]:
    """Yield the outcome of every item.

    Args:
        keys: the position and the key of each item.
        parsed: the embeddings and failures of the items.
    """
    rows = dict(zip(parsed.positions, parsed.embeddings, strict=True))
    for index, key in keys:
        truncated = index in parsed.truncated
        if error := parsed.failures.get(index):
            yield RefusedItem(index, key, error, truncated)
        else:
            yield EmbeddedItem(index, key, rows[index], truncated)


def _read_only(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    view = rows.view()
    view.flags.writeable = False
    return view


def _with_fingerprint(outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the outputs with an output ``fingerprint``.

    A model without this output states the fingerprint in the name of its only output, the embedding. That output is
    returned under the name ``embedding``.
    """
    for name, tensor in outputs.items():
        if name.startswith(NAMED_EMBEDDING):
            fingerprint = name.removeprefix(NAMED_EMBEDDING).encode()
            return {"embedding": tensor, "fingerprint": (fingerprint,) * len(tensor)}
    return outputs


def _strings(outputs: Mapping[str, Tensor], name: str) -> list[str]:
    return [value.decode("utf-8", "replace") for value in outputs.get(name, ()) if isinstance(value, bytes)]


class Cache(Generic[Key, Value]):
    """A cache of the most recently used values. It is safe to use from several threads.

    Args:
        size: the maximum number of values; 0: no value is kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Return the kept values by key. Keys without a kept value are left out."""
        found = {}
        with self._lock:
            for key in keys:
                if key in self._values:
                    self._values.move_to_end(key)
                    found[key] = self._values[key]
        return found

    def remember(self, values: Mapping[Key, Value]) -> None:
        """Keep values. If the cache is full, drop the least recently used values."""
        with self._lock:
            for key, value in values.items():
                self._values[key] = value
                self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)

    def forget(self) -> None:
        """Drop all values."""
        with self._lock:
            self._values.clear()


class TextCache:
    """The embeddings of the texts that a client used most recently.

    Args:
        size: the maximum number of texts; 0: no text is kept.
    """

    def __init__(self, size: int) -> None:
        self._cache: Cache[str, tuple[NDArray[np.float32], bool]] = Cache(size)

    def known(self, texts: Iterable[object]) -> dict[str, tuple[NDArray[np.float32], bool]]:
        """Return the embedding, float32 (D,), of each known text, and whether the text was truncated."""
        return self._cache.known(text for text in texts if isinstance(text, str))

    def forget(self) -> None:
        """Drop all texts."""
        self._cache.forget()

    def remember(self, texts: Sequence[Any], found: Iterable[Parsed]) -> None:
        """Keep read-only copies of the embeddings of texts that were not refused.

        Args:
            texts: all texts of a call.
            found: the embeddings and failures of the texts.
        """
        for parsed in found:
            for position, embedding in zip(parsed.positions, parsed.embeddings, strict=True):
                if position not in parsed.failures and len(texts[position]) <= _LONGEST_TEXT:
                    kept = embedding.copy()
                    kept.flags.writeable = False
                    self._cache.remember({texts[position]: (kept, position in parsed.truncated)})

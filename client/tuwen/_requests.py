"""Requests from items: check the items of a call, divide them, and build requests.

This module uses no network, so both clients and the fake transports can share it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from PIL import Image

from tuwen._errors import EmbeddingSpaceError, InputShapeError, InvalidArgumentError, ServerError
from tuwen._images import ImageInput, snapshot
from tuwen._pacing import Pace
from tuwen._routes import Kind, Route
from tuwen._transport import InferRequest
from tuwen.failures import ItemError, ItemFailure

__all__ = [
    "Chunker",
    "EmbeddingBatch",
    "KeyedImage",
    "KeyedText",
    "Part",
    "as_list",
    "batch_of",
    "check_some",
    "check_stream",
    "key_of",
    "naming",
    "parts",
]

KeyedImage: TypeAlias = tuple[Hashable, ImageInput]
"""A pair of a key and an image. The key marks the image's outcome."""
KeyedText: TypeAlias = tuple[Hashable, str]
"""A pair of a key and a text. The key marks the text's outcome."""


@dataclass(frozen=True)
class Part:
    """The items of one request.

    Attributes:
        positions: the positions of each item in the call or stream. A repeated text has several positions.
        items: the images or texts.
        keys: the keys of the items of a stream; empty in a call.
    """

    positions: tuple[tuple[int, ...], ...]
    items: tuple[Any, ...]
    keys: tuple[Hashable, ...] = ()


@dataclass(frozen=True)
class EmbeddingBatch:
    """The items of one part: a request with the items that could be read, and the failures of the other items.

    Attributes:
        request: the request.
        positions: the positions of each item of the request in the call or stream. A repeated text has several
            positions.
        failures: the items that could not be read.
    """

    request: InferRequest
    positions: tuple[tuple[int, ...], ...]
    failures: tuple[ItemFailure, ...]

    @property
    def items(self) -> tuple[int, ...]:
        """The positions of the request's items in the call or stream, sorted."""
        return tuple(sorted(position for positions in self.positions for position in positions))


class Chunker:
    """A chunker that divides the items of a stream into parts of the size that the pace sets.

    Args:
        kind: the kind of the items, ``image`` or ``text``.
        window: the maximum number of items in flight.
        max_batch_size: the server's maximum number of items per request.
        skip: the keys of items to leave out, such as items that an earlier run has embedded.
        check: a function that raises an `InvalidArgumentError` for an item of an invalid type. The items before the
            invalid item are still sent.

    Attributes:
        pace: the pace, which sets the size of the parts and the number of parts in flight.

    Raises:
        InvalidArgumentError: the window is smaller than 1.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        window: int,
        max_batch_size: int,
        skip: Container[Hashable],
        check: Callable[[Kind, object], None],
    ) -> None:
        if window < 1:
            raise InvalidArgumentError(f"window: expected at least 1, got {window}")
        self.pace = Pace(kind, window=window, max_batch_size=max_batch_size, measured=True)
        self._kind = kind
        self._skip = skip
        self._check = check
        self._count = 0
        self._gathered: list[tuple[tuple[int], Any, Hashable]] = []

    def add(self, item: Any) -> Part | None:
        """Add the next item of the stream. Return the part that this item completes; None: the part is not full yet.

        Raises:
            InvalidArgumentError: the item's type cannot be embedded, or it is a tuple other than ``(key, item)``.
                The message states the item's position in the stream.
        """
        if isinstance(item, tuple):
            if len(item) != 2:
                raise InvalidArgumentError(
                    f"item {self._count}: expected a tuple (key, item), got a tuple of length {len(item)}"
                )
            key, value = item
        else:
            key, value = key_of(item, self._count), item
        if key not in self._skip:
            try:
                self._check(self._kind, value)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"{self._kind} {self._count}: {error}") from error
            self._gathered.append(((self._count,), snapshot(value), key))
        self._count += 1
        return self.rest() if len(self._gathered) >= self.pace.size else None

    def rest(self) -> Part | None:
        """Return the items since the last part; None if there are no such items."""
        if not self._gathered:
            return None
        positions, items, keys = zip(*self._gathered, strict=True)
        self._gathered = []
        return Part(positions, items, keys)


def key_of(item: Any, index: int) -> Hashable:
    """Return the key of an item without a key: the item itself if it is a path or a text, else its position."""
    return cast("Hashable", item) if isinstance(item, (str, os.PathLike)) else index


def parts(
    kind: Kind, items: Sequence[ImageInput] | Sequence[str], size: int, known: Container[str] = frozenset()
) -> list[Part]:
    """Divide a call's items into parts, one for each request.

    Args:
        kind: the kind of the items. A repeated text is sent once; a repeated image is sent again.
        items: all items of the call.
        size: the maximum number of items in one request.
        known: the texts whose vectors are known already. They are left out.
    """
    positions: list[tuple[int, ...]]
    if kind == "text":
        found: dict[Any, list[int]] = {}
        for index, text in enumerate(items):
            if isinstance(text, str) and text in known:
                continue
            found.setdefault(text if isinstance(text, str) else (index,), []).append(index)
        positions = [tuple(same) for same in found.values()]
    else:
        positions = [(index,) for index in range(len(items))]
    slices = (positions[start : start + size] for start in range(0, len(positions), size))
    return [Part(tuple(held), tuple(items[first] for first, *_ in held)) for held in slices]


def batch_of(route: Route, part: Part) -> EmbeddingBatch:
    """Return the request for a part. This reads the files and encodes the images of the part.

    Raises:
        InvalidArgumentError: the type of an item cannot be embedded. The message states the position of the item.
    """
    payloads: list[bytes] = []
    sent: list[tuple[int, ...]] = []
    failures: list[ItemFailure] = []
    for positions, payload in zip(part.positions, route.payloads(part.items), strict=True):
        if isinstance(payload, InvalidArgumentError):
            raise InvalidArgumentError(f"{route.kind} {positions[0]}: {payload}") from payload
        if isinstance(payload, ItemError):
            failures += [payload.at(position) for position in positions]
        else:
            payloads.append(payload)
            sent.append(positions)
    request = InferRequest(route.model, route.input_name, tuple(payloads), route.outputs, route.item_shape, route.bulk)
    return EmbeddingBatch(request, tuple(sent), tuple(failures))


@contextmanager
def naming(batch: EmbeddingBatch, fingerprint: str) -> Iterator[None]:
    """Provide a context in which errors of the server name the items of a batch.

    Args:
        batch: the batch of the request.
        fingerprint: the fingerprint of the client's embedding space.

    Raises:
        EmbeddingSpaceError: the server's image size differs from that of the client's model card, because the server's
            model was changed.
        ServerError: the block raised this error. Its ``items`` are set to the positions of the batch's items.
    """
    try:
        yield
    except InputShapeError as error:
        where = f"the vectors of a server with another image size ({error})"
        raise EmbeddingSpaceError(fingerprint, "", where) from error
    except ServerError as error:
        error.items = batch.items
        raise


Wanted = Literal["image", "text", "label", "template"]


def as_list(kind: Wanted, items: object) -> list[Any]:
    """Return the items of a call as a list.

    Args:
        kind: the kind of items.
        items: an iterable, such as a list, a tuple, a generator, a pandas Series or an array.

    Raises:
        InvalidArgumentError: `items` is a single item or not an iterable. The message shows the correct call.
    """
    if isinstance(items, AsyncIterable) and not isinstance(items, Iterable):
        raise _error(kind, items, f"for an asynchronous iterable, call AsyncClient.stream_{kind}s({kind}s)")
    found = _checked(kind, items, "embed")
    return list(found) if isinstance(found, (list, tuple)) else [snapshot(item) for item in found]


def check_some(method: str, kind: Wanted, items: object) -> list[Any]:
    """Return the items of a call that needs at least one item.

    Raises:
        InvalidArgumentError: `items` is empty, a single item or not an iterable.
    """
    found = as_list(kind, items)
    if not found:
        raise InvalidArgumentError(f"{method} needs at least one {kind}")
    return found


def check_stream(kind: Wanted, items: object, *, asynchronous: bool) -> None:
    """Check before a stream begins that its source is an iterable of items.

    Raises:
        InvalidArgumentError: `items` is a single item or not an iterable. The message shows the correct call.
    """
    if isinstance(items, AsyncIterable):
        if not asynchronous:
            raise _error(kind, items, f"for an asynchronous iterable, call AsyncClient.stream_{kind}s({kind}s)")
    else:
        _checked(kind, items, "stream")


def _checked(kind: Wanted, items: object, verb: str) -> Iterable[Any]:
    one = f"{verb}_{kind}s([{kind}])" if kind in ("image", "text") else f"[{kind}]"
    advice = f"for one {kind} {'call' if kind in ('image', 'text') else 'pass'} {one}"
    if isinstance(items, Mapping):
        keyed = f", or stream_{kind}s({kind}s.items()) to get outcomes with keys" if verb == "stream" else ""
        raise _error(kind, items, f"pass the keys or the values of the mapping{keyed}")
    single = isinstance(items, (str, bytes, bytearray, memoryview, os.PathLike, Image.Image))
    if single or (kind == "image" and hasattr(items, "read")) or not isinstance(items, Iterable):
        raise _error(kind, items, advice)
    dimensions = getattr(items, "ndim", 1)
    if kind == "image" and isinstance(items, np.ndarray) and items.dtype.kind not in "OUS":
        if dimensions < 4:  # one image (H, W) or (H, W, C), or the bytes of a file; a batch is (N, H, W, C)
            raise _error(kind, items, advice)
    elif isinstance(dimensions, int) and dimensions != 1:  # such as a data frame: iterating over it yields column names
        raise _error(kind, items, _advice_by_dimensions(kind, items, dimensions, verb))
    return items


def _advice_by_dimensions(kind: Wanted, items: object, dimensions: int, verb: str) -> str:
    if dimensions == 0 and kind in ("image", "text"):
        return f"for one {kind} call {verb}_{kind}s([{kind}.item()])"
    if kind == "image" and not hasattr(items, "columns"):
        return "pass a NumPy uint8 array of shape (N, H, W, 3), or a list of arrays of shape (H, W, 3)"
    return f"pass one column with {'an' if kind == 'image' else 'a'} {kind} in each row"


def _error(kind: Wanted, items: object, advice: str) -> InvalidArgumentError:
    shape = getattr(items, "shape", None)
    of_shape = f" of shape {tuple(shape)}" if isinstance(shape, tuple) else ""
    return InvalidArgumentError(f"expected a list of {kind}s, got {type(items).__name__}{of_shape}; {advice}")

"""From items to requests and from responses to results: the one builder and the one parser of the SDK.

Nothing here touches a network, so the synchronous client, the asynchronous one and the fakes all share it.
"""

from __future__ import annotations

import uuid
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen._card import ModelCard
from tuwen._errors import (
    EmbeddingSpaceError,
    InferenceError,
    InputShapeError,
    InvalidArgumentError,
    InvalidItemsError,
    ItemFailure,
    ServerError,
)
from tuwen._images import ImageInput, UnreadableItemError
from tuwen._routes import Kind, Route

__all__ = [
    "NAMED_EMBEDDING",
    "EmbeddingBatch",
    "InferRequest",
    "InferResponse",
    "Parsed",
    "Part",
    "Tensor",
    "TextTruncatedWarning",
    "assemble",
    "batch_of",
    "naming",
    "parse",
    "parts",
]

Tensor: TypeAlias = "NDArray[np.float32] | NDArray[np.bool_] | tuple[bytes, ...]"

Part: TypeAlias = list[tuple[tuple[int, ...], Any]]
"""Items of one request, each with its positions in the call or stream."""

NAMED_EMBEDDING = "embedding."
"""How the output's name begins whose rest is the fingerprint, in a model that has no output ``fingerprint``."""


class TextTruncatedWarning(UserWarning):
    """Texts longer than the context length were cut; the message says which."""


@dataclass(frozen=True)
class InferRequest:
    """One request to one model.

    Attributes:
        items: the values of its one input.
        outputs: the names of the outputs that are requested; empty: all outputs of the model.
        item_shape: of each item, a uint8 tensor; empty: the items are strings, a TYPE_STRING tensor (n, 1).
        bulk: lets requests that are not go before it.
        request_id: shows in the server's log and in errors.
    """

    model: str
    input_name: str
    items: tuple[bytes, ...]
    outputs: tuple[str, ...]
    item_shape: tuple[int, ...] = ()
    bulk: bool = False
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])


@dataclass(frozen=True)
class InferResponse:
    """The outputs by name; TYPE_STRING ones as a tuple of bytes, the others as arrays (n, ...)."""

    outputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class EmbeddingBatch:
    """A slice of a call's items: the request for those that could be read, and the failures of the others.

    Attributes:
        positions: for every item of the request, where it stands in the call: once, or more often.
    """

    request: InferRequest
    positions: tuple[tuple[int, ...], ...]
    failures: tuple[ItemFailure, ...]

    @property
    def items(self) -> tuple[int, ...]:
        """The positions in the call that the request is for, in order."""
        return tuple(sorted(position for positions in self.positions for position in positions))


@dataclass(frozen=True)
class Parsed:
    """What became of the items of a batch, each at its position in the call.

    Attributes:
        embeddings: float32 (D,) each; those of refused items mean nothing.
    """

    embeddings: Mapping[int, NDArray[np.float32]]
    failures: Mapping[int, ItemFailure]
    truncated: frozenset[int]


def parts(
    kind: Kind, items: Sequence[ImageInput] | Sequence[str], size: int, known: Container[str] = frozenset()
) -> list[Part]:
    """A call's items as the requests will hold them.

    Args:
        kind: of the items. A text that is there more than once is sent once.
        items: all items of the call.
        size: the most items of one request.
        known: texts that are not sent.
    """
    wanted: Part
    if kind == "text":
        found: dict[Any, list[int]] = {}
        for index, text in enumerate(items):
            if isinstance(text, str) and text in known:
                continue
            found.setdefault(text if isinstance(text, str) else (index,), []).append(index)
        wanted = [(tuple(positions), items[positions[0]]) for positions in found.values()]
    else:
        wanted = [((index,), item) for index, item in enumerate(items)]
    return [wanted[start : start + size] for start in range(0, len(wanted), size)]


def batch_of(route: Route, items: Part) -> EmbeddingBatch:
    """One request; reads files and encodes images.

    Raises:
        InvalidArgumentError: an item is of no type that can be embedded; names its position.
    """
    payloads: list[bytes] = []
    sent: list[tuple[int, ...]] = []
    failures: list[ItemFailure] = []
    for (positions, _), payload in zip(items, route.payloads([item for _, item in items]), strict=True):
        if isinstance(payload, InvalidArgumentError):
            raise InvalidArgumentError(f"{route.kind} {positions[0]}: {payload}") from payload
        if isinstance(payload, UnreadableItemError):
            failures += [ItemFailure(position, payload.reason, str(payload)) for position in positions]
        else:
            payloads.append(payload)
            sent.append(positions)
    request = InferRequest(route.model, route.input_name, tuple(payloads), route.outputs, route.item_shape, route.bulk)
    return EmbeddingBatch(request, tuple(sent), tuple(failures))


@contextmanager
def naming(batch: EmbeddingBatch, fingerprint: str | None) -> Iterator[None]:
    """Around what is done for a batch: an error of the server names its items.

    Args:
        batch: whose request is sent.
        fingerprint: of the client's embedding space.

    Raises:
        EmbeddingSpaceError: the server's images have another size, so it is not the server of the client's model card.
    """
    try:
        yield
    except InputShapeError as error:
        where = f"the vectors of a server with another image size ({error})"
        raise EmbeddingSpaceError(str(fingerprint), "", where) from error
    except ServerError as error:
        error.items = batch.items
        raise


def parse(batch: EmbeddingBatch, response: InferResponse | None, card: ModelCard) -> Parsed:
    """What became of the items of a batch; no response, where all of them failed before they were sent.

    Raises:
        InferenceError: the response does not have the outputs or shapes that the repository promises, or does not
            tell its embedding space.
        EmbeddingSpaceError: its vectors are of another space than the card's.
    """
    failures = {failure.index: failure for failure in batch.failures}
    if response is None:
        return Parsed({}, failures, frozenset())
    request, outputs = batch.request, _with_fingerprint(response.outputs)
    expected = request.outputs or ("embedding", "fingerprint")
    lengths = {name: len(outputs[name]) for name in expected if name in outputs}
    embedding = outputs.get("embedding")
    if not isinstance(embedding, np.ndarray) or lengths != dict.fromkeys(expected, len(batch.positions)):
        raise InferenceError(
            f"unexpected outputs for {len(batch.positions)} items: {lengths}",
            model=request.model,
            request_id=request.request_id,
            items=batch.items,
        )
    for found in set(_strings(outputs, "fingerprint")) - {card.fingerprint}:
        raise EmbeddingSpaceError(card.fingerprint, found)
    vectors: dict[int, NDArray[np.float32]] = {}
    for positions, row in zip(batch.positions, embedding.astype(np.float32, copy=False), strict=True):
        vectors |= dict.fromkeys(positions, row)
    for positions, status in zip(batch.positions, _strings(outputs, "status"), strict=False):
        if status:
            reason, _, message = status.partition(": ")
            failures |= {position: ItemFailure(position, reason, message) for position in positions}
    flags = np.ravel(np.asarray(outputs.get("truncated", ()), dtype=np.bool_))
    cut = {position for positions, flag in zip(batch.positions, flags, strict=False) if flag for position in positions}
    return Parsed(vectors, failures, frozenset(cut))


def assemble(kind: Kind, total: int, dimension: int, parsed: Iterable[Parsed]) -> tuple[NDArray[np.float32], list[int]]:
    """The embeddings of a whole call, float32 (total, dimension), in the order of its items; the truncated ones.

    Raises:
        InvalidItemsError: items were refused; lists every one.
    """
    embeddings = np.empty((total, dimension), dtype=np.float32)
    failures: dict[int, ItemFailure] = {}
    truncated: set[int] = set()
    for batch in parsed:
        for position, row in batch.embeddings.items():
            embeddings[position] = row
        failures |= batch.failures
        truncated |= batch.truncated
    if failures:
        raise InvalidItemsError(kind, tuple(failures[position] for position in sorted(failures)), total)
    return embeddings, sorted(truncated)


def _with_fingerprint(outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the outputs with the fingerprint as one of them, also where the name of the embedding carries it."""
    for name, tensor in outputs.items():
        if name.startswith(NAMED_EMBEDDING):
            fingerprint = name.removeprefix(NAMED_EMBEDDING).encode()
            return {"embedding": tensor, "fingerprint": (fingerprint,) * len(tensor)}
    return outputs


def _strings(outputs: Mapping[str, Tensor], name: str) -> list[str]:
    return [value.decode("utf-8", "replace") for value in outputs.get(name, ()) if isinstance(value, bytes)]

"""From items to requests and from responses to results: the one builder and the one parser of the SDK.

Nothing here touches a network, so the synchronous client, an asynchronous one and the fake all share it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen._errors import InferenceError, InvalidArgumentError, InvalidItemsError, ItemFailure
from tuwen._images import ImageInput, UnreadableImageError, encoded_bytes

__all__ = [
    "ITEMS_PER_REQUEST",
    "EmbeddingBatch",
    "InferRequest",
    "InferResponse",
    "Kind",
    "Tensor",
    "TextTruncatedWarning",
    "assemble",
    "batch_of",
    "batches",
    "check_items",
    "parse",
]

Kind = Literal["image", "text"]
Tensor: TypeAlias = "NDArray[np.float32] | NDArray[np.bool_] | tuple[bytes, ...]"

# Small requests spread over the server's batches; Triton joins them again. Larger ones only save overhead.
ITEMS_PER_REQUEST: Mapping[Kind, int] = {"image": 8, "text": 32}
_OUTPUTS: Mapping[Kind, tuple[str, ...]] = {
    "image": ("embedding", "status"),
    "text": ("embedding", "status", "truncated"),
}


class TextTruncatedWarning(UserWarning):
    """Texts longer than the context length were cut; the message says which."""


@dataclass(frozen=True)
class InferRequest:
    """One request to one of the two ensembles.

    Attributes:
        items: the values of its one input, a TYPE_STRING tensor (n, 1).
        request_id: shows in the server's log and in errors.
    """

    model: str
    input_name: str
    items: tuple[bytes, ...]
    outputs: tuple[str, ...]
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])


@dataclass(frozen=True)
class InferResponse:
    """The outputs by name; TYPE_STRING ones as a tuple of bytes, the others as arrays (n, ...)."""

    outputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class EmbeddingBatch:
    """A slice of a call's items: the request for those that could be read, and the failures of the others.

    Attributes:
        indices: for every item of the request, its position in the call.
    """

    request: InferRequest
    indices: tuple[int, ...]
    failures: tuple[ItemFailure, ...]


def check_items(kind: Kind, items: object) -> None:
    """Refuse what is no sequence of items, above all a single string, which is one too.

    Raises:
        InvalidArgumentError: says what to pass.
    """
    if isinstance(items, (str, bytes, bytearray)) or not isinstance(items, Sequence):
        raise InvalidArgumentError(f"pass a list of {kind}s, even for one: embed_{kind}s([{kind}])")


def batches(kind: Kind, items: Sequence[ImageInput] | Sequence[str], max_batch_size: int) -> Iterator[EmbeddingBatch]:
    """Split a call's items into requests, reading images only as their turn comes."""
    size = min(ITEMS_PER_REQUEST[kind], max_batch_size)
    for start in range(0, len(items), size):
        stop = min(start + size, len(items))
        yield batch_of(kind, ((index, items[index]) for index in range(start, stop)))


def batch_of(kind: Kind, items: Iterable[tuple[int, Any]]) -> EmbeddingBatch:
    """One request for items, each with its position in the call or stream; reads files and encodes images.

    Raises:
        InvalidArgumentError: an item is of no type that can be embedded; names its position.
    """
    payloads, indices, failures = [], [], []
    for index, item in items:
        try:
            payloads.append(_payload(kind, item))
            indices.append(index)
        except UnreadableImageError as error:
            failures.append(ItemFailure(index, "unreadable", str(error)))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{kind} {index}: {error}") from error
    request = InferRequest(f"{kind}_embedding", kind, tuple(payloads), _OUTPUTS[kind])
    return EmbeddingBatch(request, tuple(indices), tuple(failures))


def parse(batch: EmbeddingBatch, response: InferResponse) -> tuple[NDArray[np.float32], list[ItemFailure], list[int]]:
    """The embeddings (n, D) of a request's items, the failures, and the positions of truncated texts.

    Raises:
        InferenceError: the response does not have the outputs or shapes that the repository promises.
    """
    count = len(batch.indices)
    embedding, status = response.outputs.get("embedding"), response.outputs.get("status")
    truncated = response.outputs.get("truncated", np.zeros((count, 1), dtype=np.bool_))
    shapes = [len(tensor) for tensor in (embedding, status, truncated) if tensor is not None]
    if not isinstance(embedding, np.ndarray) or not isinstance(status, tuple) or shapes != [count] * 3:
        raise InferenceError(
            f"unexpected outputs for {count} items: {sorted(response.outputs)} of lengths {shapes}",
            model=batch.request.model,
            request_id=batch.request.request_id,
        )
    failures = []
    for index, text in zip(batch.indices, status, strict=True):
        if text:
            reason, _, message = text.decode("utf-8", "replace").partition(": ")
            failures.append(ItemFailure(index, reason, message))
    cut = [index for index, flag in zip(batch.indices, np.ravel(truncated), strict=True) if flag]
    return embedding.astype(np.float32, copy=False), failures, cut


def assemble(
    kind: Kind,
    total: int,
    dimension: int,
    answers: Iterable[tuple[EmbeddingBatch, InferResponse | None]],
) -> tuple[NDArray[np.float32], list[int]]:
    """The embeddings of a whole call, float32 (total, dimension), in the order of its items; the truncated ones.

    Raises:
        InvalidItemsError: items were refused; lists every one.
    """
    embeddings = np.empty((total, dimension), dtype=np.float32)
    failures: list[ItemFailure] = []
    truncated: list[int] = []
    for batch, response in answers:
        failures += batch.failures
        if response is not None:
            rows, refused, cut = parse(batch, response)
            embeddings[list(batch.indices)] = rows
            failures += refused
            truncated += cut
    if failures:
        raise InvalidItemsError(kind, tuple(sorted(failures, key=lambda failure: failure.index)), total)
    return embeddings, truncated


def _payload(kind: Kind, item: ImageInput | str) -> bytes:
    if kind == "image":
        return encoded_bytes(item)
    if not isinstance(item, str):
        raise InvalidArgumentError(f"a text is a str, not {type(item).__name__}")
    try:
        return item.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"not valid Unicode: a lone surrogate at position {error.start}") from error

"""What every method does, written once for the synchronous and the asynchronous client.

A call is a generator: it yields what it needs from outside (the model card, responses, a warning shown) and is
resumed with it; what it returns is the method's result. The clients differ only in how they get those things.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen._card import ModelCard
from tuwen._errors import InvalidArgumentError
from tuwen._images import ImageInput
from tuwen._requests import EmbeddingBatch, InferResponse, Kind, TextTruncatedWarning, assemble, batches, check_items
from tuwen._scores import Similarity, similarity
from tuwen._zero_shot import Classification, LabelCache, Templates, check_labels, label_embeddings, template_texts

__all__ = ["Answers", "Call", "Effect", "Infer", "ReadCard", "Warn", "classify", "compare", "embed", "read_card"]

Answers: TypeAlias = "list[tuple[EmbeddingBatch, InferResponse | None]]"
"""Batches with their responses, in order; None for a batch that had nothing to send."""


@dataclass(frozen=True)
class ReadCard:
    """Wants the server's `ModelCard`."""


@dataclass(frozen=True)
class Infer:
    """Wants the `Answers` to batches.

    Attributes:
        batches: to be advanced as requests leave, so that few images are in memory at once.
        reads_files: whether advancing it reads files and encodes images.
    """

    batches: Iterator[EmbeddingBatch]
    reads_files: bool


@dataclass(frozen=True)
class Warn:
    """Wants the user warned, at the line that called the client's method."""

    warning: Warning


Effect: TypeAlias = ReadCard | Infer | Warn
Result = TypeVar("Result")
Call: TypeAlias = Generator[Effect, Any, Result]


def read_card() -> Call[ModelCard]:
    """What the server's vectors are."""
    card: ModelCard = yield ReadCard()
    return card


def embed(kind: Kind, items: Sequence[ImageInput] | Sequence[str]) -> Call[NDArray[np.float32]]:
    """Unit vectors, float32 (n, D)."""
    check_items(kind, items)
    card = yield from read_card()
    answers: Answers = yield Infer(batches(kind, items, card.max_batch_size), reads_files=kind == "image")
    embeddings, truncated = assemble(kind, len(items), card.embedding_dimension, answers)
    if truncated:
        shown = ", ".join(map(str, truncated[:10])) + (", ..." if len(truncated) > 10 else "")
        message = f"{len(truncated)} of {len(items)} texts were cut to the model's context length: {shown}"
        yield Warn(TextTruncatedWarning(message))
    return embeddings


def compare(images: Sequence[ImageInput], texts: Sequence[str]) -> Call[Similarity]:
    """Every image with every text."""
    _check_some("similarity", "image", images)
    _check_some("similarity", "text", texts)
    image_embeddings = yield from embed("image", images)
    text_embeddings = yield from embed("text", texts)
    card = yield from read_card()
    return similarity(image_embeddings, text_embeddings, card.logit_scale)


def classify(
    images: Sequence[ImageInput], labels: Sequence[str], templates: Templates, cache: LabelCache
) -> Call[Classification]:
    """Every image with the mean vector of every label's texts."""
    checked, texts = check_labels(labels), template_texts(templates)
    _check_some("classify", "image", images)
    known = cache.known(checked, texts)
    if missing := [label for label in checked if label not in known]:
        prompts = [template.replace("{}", label) for label in missing for template in texts]
        vectors = yield from embed("text", prompts)
        found = dict(zip(missing, label_embeddings(vectors, len(texts)), strict=True))
        cache.remember(found, texts)
        known |= found
    image_embeddings = yield from embed("image", images)
    card = yield from read_card()
    label_vectors = np.stack([known[label] for label in checked])
    return Classification(checked, similarity(image_embeddings, label_vectors, card.logit_scale))


def _check_some(method: str, kind: Kind, items: Sequence[object]) -> None:
    check_items(kind, items)
    if not items:
        raise InvalidArgumentError(f"{method} needs at least one {kind}")

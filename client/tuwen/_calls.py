"""What every method does, written once for the synchronous and the asynchronous client.

A call is a generator: it yields what it needs from outside (the model card, responses, the server's statistics, a
warning shown) and is resumed with it; what it returns is the method's result. The clients differ only in how they get
those things.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen._cache import TextCache
from tuwen._card import ModelCard
from tuwen._errors import InvalidArgumentError
from tuwen._images import ImageInput
from tuwen._items import as_list, check_some
from tuwen._pace import ITEMS_PER_REQUEST, Pace
from tuwen._profile import Profile, profile_of
from tuwen._requests import (
    EmbeddingBatch,
    InferResponse,
    Parsed,
    TextTruncatedWarning,
    assemble,
    batch_of,
    parse,
    parts,
)
from tuwen._routes import Kind, Routes
from tuwen._scores import Similarity, similarity
from tuwen._streams import ItemOutcome, key_of, outcome
from tuwen.statistics import Statistics, difference
from tuwen.zero_shot import (
    Classification,
    LabelCache,
    Templates,
    check_labels,
    label_embeddings,
    label_texts,
    template_texts,
)

__all__ = [
    "Answers",
    "Call",
    "Effect",
    "Infer",
    "ReadCard",
    "ReadStatistics",
    "Warn",
    "attempt",
    "classify",
    "compare",
    "embed",
    "profile",
    "read_card",
    "read_statistics",
]

Answers: TypeAlias = "list[Parsed]"
"""What became of the items of each batch, in order. Neither a request nor its payloads are kept."""


@dataclass(frozen=True)
class ReadCard:
    """Wants the server's `ModelCard`."""


@dataclass(frozen=True)
class ReadStatistics:
    """Wants the server's `Statistics`."""


@dataclass(frozen=True)
class Infer:
    """Wants the `Answers` to batches.

    Attributes:
        batches: to be advanced as requests leave, so that few images are in memory at once.
        reads_files: whether advancing it reads files and encodes images.
        pace: how many requests may be on their way at once; None: one after the other.
        card: that the responses are held to.
    """

    batches: Iterator[EmbeddingBatch]
    reads_files: bool
    pace: Pace | None
    card: ModelCard

    def read(self, batch: EmbeddingBatch, response: InferResponse | None) -> Parsed:
        """Return what became of a batch, as soon as its response is there; None: it had nothing to send.

        Raises:
            InferenceError, EmbeddingSpaceError: as `parse`.
        """
        return parse(batch, response, self.card)


@dataclass(frozen=True)
class Warn:
    """Wants the user warned, at the line that called the client's method."""

    warning: Warning


_FULL_REQUESTS = 8  # of a call, on their way at most: 64 images or 256 texts, as in a stream's window
_STATISTICS_READS = 20  # a server counts a request shortly after it has answered it

Effect: TypeAlias = ReadCard | ReadStatistics | Infer | Warn
Items: TypeAlias = "Iterable[ImageInput] | Iterable[str]"
Result = TypeVar("Result")
Call: TypeAlias = Generator[Effect, Any, Result]


def read_card() -> Call[ModelCard]:
    """What the server's vectors are."""
    card: ModelCard = yield ReadCard()
    return card


def read_statistics() -> Call[Statistics]:
    """What the server has counted."""
    statistics: Statistics = yield ReadStatistics()
    return statistics


def embed(kind: Kind, items: Items, routes: Routes, texts: TextCache) -> Call[NDArray[np.float32]]:
    """Unit vectors, float32 (n, D). Those of known texts come from the cache `texts`, as in all calls below."""
    items = as_list(kind, items)
    card, parsed = yield from _parsed(kind, items, routes, texts)
    embeddings, truncated = assemble(kind, len(items), card.embedding_dimension, parsed)
    if truncated:
        shown = ", ".join(map(str, truncated[:10])) + (", ..." if len(truncated) > 10 else "")
        message = f"{len(truncated)} of {len(items)} texts were cut to the model's context length: {shown}"
        yield Warn(TextTruncatedWarning(message))
    return embeddings


def attempt(kind: Kind, items: Items, routes: Routes, texts: TextCache) -> Call[list[ItemOutcome]]:
    """An outcome for each item, in order."""
    items = as_list(kind, items)
    _, parsed = yield from _parsed(kind, items, routes, texts)
    owner = {position: batch for batch in parsed for position in (*batch.embeddings, *batch.failures)}
    return [outcome(index, key_of(item, index), owner[index]) for index, item in enumerate(items)]


def compare(images: Iterable[ImageInput], texts: Iterable[str], routes: Routes, known: TextCache) -> Call[Similarity]:
    """Every image with every text."""
    images, texts = check_some("similarity", "image", images), check_some("similarity", "text", texts)
    image_embeddings = yield from embed("image", images, routes, known)
    text_embeddings = yield from embed("text", texts, routes, known)
    card = yield from read_card()
    return similarity(image_embeddings, text_embeddings, card.logit_scale)


def classify(
    images: Iterable[ImageInput],
    labels: Iterable[str],
    templates: Templates,
    routes: Routes,
    *,
    cache: LabelCache,
    known_texts: TextCache,
) -> Call[Classification]:
    """Every image with the mean vector of every label's texts."""
    checked, texts = check_labels(labels), template_texts(templates)
    images = check_some("classify", "image", images)
    known = cache.known(checked, texts)
    if missing := [label for label in checked if label not in known]:
        vectors = yield from embed("text", label_texts(missing, texts), routes, known_texts)
        found = dict(zip(missing, label_embeddings(vectors, len(texts)), strict=True))
        cache.remember(found, texts)
        known |= found
    image_embeddings = yield from embed("image", images, routes, known_texts)
    card = yield from read_card()
    label_vectors = np.stack([known[label] for label in checked])
    return Classification(checked, similarity(image_embeddings, label_vectors, card.logit_scale))


def profile(images: Iterable[ImageInput], texts: Iterable[str], routes: Routes) -> Call[Profile]:
    """Where the time goes when these are embedded, one request at a time."""
    images, texts = as_list("image", images), as_list("text", texts)
    if not images and not texts:
        raise InvalidArgumentError("profile needs images or texts")
    card = yield from read_card()
    before = yield from read_statistics()
    sent: Counter[str] = Counter()
    waiting, start = 0.0, time.perf_counter()
    kinds: list[tuple[Kind, Sequence[ImageInput] | Sequence[str]]] = [("image", images), ("text", texts)]
    for kind, items in kinds:
        building: list[float] = []
        asked = time.perf_counter()
        wanted = _wanted(kind, items, routes, card, paced=False)
        answers: Answers = yield replace(wanted, batches=_counted(wanted.batches, building, sent))
        waiting += time.perf_counter() - asked - sum(building)
        assemble(kind, len(items), card.embedding_dimension, answers)
    total = time.perf_counter() - start
    for _ in range(_STATISTICS_READS):
        counted = difference((yield from read_statistics()), before)
        if all(model in counted and counted[model].requests >= number for model, number in sent.items()):
            break
    return profile_of(len(images) + len(texts), sent, total, waiting, counted)


def _counted(wanted: Iterator[EmbeddingBatch], seconds: list[float], sent: Counter[str]) -> Iterator[EmbeddingBatch]:
    """The same batches; notes how long each took to build, and counts the requests to each model."""
    while True:
        start = time.perf_counter()
        batch = next(wanted, None)
        seconds.append(time.perf_counter() - start)
        if batch is None:
            return
        if batch.positions:
            sent[batch.request.model] += 1
        yield batch


def _wanted(
    kind: Kind,
    items: Sequence[ImageInput] | Sequence[str],
    routes: Routes,
    card: ModelCard,
    known: Container[str] = frozenset(),
    *,
    paced: bool = True,
) -> Infer:
    route = routes.to(kind, card)
    window = _FULL_REQUESTS * ITEMS_PER_REQUEST[kind]
    pace = Pace(kind, window=window, max_batch_size=card.max_batch_size, measured=False)
    requests = parts(kind, items, pace.size, known)
    takes_time = route.pool is not None or (kind == "image" and not all(isinstance(item, bytes) for item in items))
    batches = (batch_of(route, part) for part in requests)
    return Infer(batches, reads_files=takes_time, pace=pace if paced and len(requests) > 1 else None, card=card)


def _parsed(
    kind: Kind, items: Sequence[ImageInput] | Sequence[str], routes: Routes, texts: TextCache
) -> Call[tuple[ModelCard, list[Parsed]]]:
    card = yield from read_card()
    known = texts.known(items) if kind == "text" else {}
    found: Answers = yield _wanted(kind, items, routes, card, known)
    if kind == "text":
        _remember(texts, items, found)
        found.append(_recalled(items, known))
    return card, found


def _recalled(items: Sequence[Any], known: Mapping[str, tuple[NDArray[np.float32], bool]]) -> Parsed:
    """What is known of the texts of a call, each at its positions."""
    recalled = [
        (position, *known[text]) for position, text in enumerate(items) if isinstance(text, str) and text in known
    ]
    return Parsed(
        {position: embedding for position, embedding, _ in recalled},
        {},
        frozenset(position for position, _, truncated in recalled if truncated),
    )


def _remember(texts: TextCache, items: Sequence[Any], found: Sequence[Parsed]) -> None:
    for parsed in found:
        for position, embedding in parsed.embeddings.items():
            if position not in parsed.failures:
                texts.remember(items[position], embedding, truncated=position in parsed.truncated)

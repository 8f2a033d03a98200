"""The computation behind all HTTP APIs of the edge: embeddings, similarities and labels of texts and images."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen import (
    AsyncClient,
    EmbeddedItem,
    EmbeddingSpaceError,
    ItemFailure,
    ItemOutcome,
    ModelCard,
    RefusedItem,
    Similarity,
    Templates,
    TuwenError,
)
from tuwen.zero_shot import check_labels, label_embeddings, label_texts, similarity, template_texts
from tuwen_edge.errors import EdgeError, edge_error, refused_items
from tuwen_edge.items import Item, estimate_tokens

__all__ = ["Core", "Embedded"]

First = TypeVar("First")
Second = TypeVar("Second")
_NOT_FETCHED = (
    "this service does not fetch web addresses; send the image as base64, or ask the operator to allow the host"
)


@dataclass(frozen=True, eq=False)
class Embedded:
    """The embeddings of the items of a request.

    Attributes:
        vectors: the unit vectors of the items, in the order of the items, float32 (n, D).
        truncated: the positions of texts that were cut to the context length.
        tokens: an estimate of the number of tokens of the texts.
        images: the number of images.
        model: the name of the model with its fingerprint, as ``NAME@FINGERPRINT``.
    """

    vectors: NDArray[np.float32]
    truncated: tuple[int, ...]
    tokens: int
    images: int
    model: str


class Core:
    """The computation behind all HTTP APIs of the edge, with one model of the embedding server.

    Args:
        client: the client of the embedding server.
        name: the name of the model in requests and responses; None: the last part of the checkpoint's name.
        aliases: other names of the model; ``*`` allows every name.
        max_items: the maximum number of items per request.
        fetches: whether the client fetches images at web addresses.

    Attributes:
        started: the start time of this edge, in seconds since 1970.
        is_changed: whether the server's embedding space has changed since its first response. If so, the edge must be
            restarted.
        fingerprint: the fingerprint of the server's embedding space; empty before the server's first response.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        name: str | None = None,
        aliases: Collection[str] = (),
        max_items: int = 2048,
        fetches: bool = False,
    ) -> None:
        self._client = client
        self._name = name
        self._aliases = frozenset(aliases)
        self._max_items = max_items
        self._fetches = fetches
        self._card: ModelCard | None = None
        self.started = int(time.time())
        self.is_changed = False
        self.fingerprint = ""

    async def card(self) -> ModelCard:
        """Return the model card of the server.

        Raises:
            EdgeError: the server did not return a model card.
        """
        if self._card is None:
            try:
                self._card = await self._client.model_card()
            except TuwenError as error:
                raise self._noted(error) from error
            self.fingerprint = self._card.fingerprint
        return self._card

    def names(self, card: ModelCard) -> list[str]:
        """Return the names of the model. The first name contains the fingerprint: ``NAME@FINGERPRINT``."""
        name = self.name(card)
        return [f"{name}@{card.fingerprint}", name, *sorted(self._aliases - {"*", name})]

    def name(self, card: ModelCard) -> str:
        """Return the name of the model without its fingerprint."""
        return self._name or card.checkpoint.rstrip("/").rpartition("/")[2] or card.family

    async def check_model(self, asked: str | None) -> ModelCard:
        """Check that the requested model is the served one, and return the card of this model.

        Args:
            asked: the requested name, with or without a fingerprint; None: the request names no model.

        Raises:
            EdgeError: 404: the request names another model or another fingerprint.
        """
        card = await self.card()
        names = self.names(card)
        if asked is None or asked in names:
            return card
        name, _, fingerprint = asked.partition("@")
        if name in names and fingerprint:
            reason = f"its embedding space is now {card.fingerprint} instead of {fingerprint[:64]}"
            raise EdgeError(404, f"The model {name!r} was changed: {reason}.", code="model_not_found", param="model")
        if "*" in self._aliases:
            return card
        raise EdgeError(
            404,
            f"There is no model {asked[:100]!r}; this service has {', '.join(map(repr, names))}.",
            code="model_not_found",
            param="model",
        )

    def check_count(self, count: int) -> None:
        """Check the number of items of a request.

        Raises:
            EdgeError: 413: there are too many items.
        """
        if count > self._max_items:
            raise EdgeError(
                413,
                f"The request has {count} items, the limit is {self._max_items}. Split the request.",
                code="too_many_items",
                param="input",
            )

    async def embed(self, items: Sequence[Item], *, cut: bool = True) -> Embedded:
        """Embed texts and images, mixed in any order.

        Args:
            items: the items, at most the maximum number per request.
            cut: whether texts that are longer than the context length are cut instead of refused.

        Raises:
            EdgeError: items are refused, or the server failed.
        """
        self.check_count(len(items))
        card = await self.card()
        outcomes = await self._outcomes(items)
        failures = [outcome.error for outcome in outcomes if not outcome.ok]
        truncated = tuple(outcome.index for outcome in outcomes if outcome.truncated)
        if not cut:
            known = {failure.index for failure in failures}
            failures += [
                ItemFailure(index, "too_long", f"the text is longer than {card.context_length} tokens")
                for index in truncated
                if index not in known
            ]
        if failures:
            raise refused_items(sorted(failures, key=lambda failure: failure.index), len(items))
        vectors = np.empty((len(items), card.embedding_dimension), dtype=np.float32)
        for outcome in outcomes:
            if outcome.ok:
                vectors[outcome.index] = outcome.embedding
        tokens = sum(estimate_tokens(item, card.context_length) for item in items)
        images = sum(item.kind == "image" for item in items)
        return Embedded(vectors, truncated, tokens, images, self.names(card)[0])

    async def compare(self, embedded: Embedded, images: int) -> Similarity:
        """Return the similarity of every image with every text.

        Args:
            embedded: the embeddings of the images, followed by the embeddings of the texts.
            images: the number of images.
        """
        card = await self.card()
        return similarity(embedded.vectors[:images], embedded.vectors[images:], card.logit_scale)

    async def classify(
        self, items: Sequence[Item], labels: Sequence[str], templates: Templates
    ) -> tuple[Embedded, Similarity]:
        """Compare items with labels, as `AsyncClient.classify` compares images with labels.

        Raises:
            EdgeError: items, labels or templates are refused, or the server failed.
        """
        try:
            texts = template_texts(templates)
            wanted = label_texts(check_labels(labels), texts)
        except TuwenError as error:
            raise edge_error(error) from error
        self.check_count(len(wanted))
        embedded, of_labels = await _both(self.embed(items), self.embed([Item("text", text) for text in wanted]))
        card = await self.card()
        vectors = label_embeddings(of_labels.vectors, len(texts))
        return embedded, similarity(embedded.vectors, vectors, card.logit_scale)

    async def is_ready(self) -> bool:
        """Return whether the server responds, and still has the embedding space of its first response."""
        try:
            await self.card()
        except EdgeError:
            return False
        return not self.is_changed and await self._client.is_ready()

    def _noted(self, error: TuwenError) -> EdgeError:
        self.is_changed = self.is_changed or isinstance(error, EmbeddingSpaceError)
        return edge_error(error)

    async def _outcomes(self, items: Sequence[Item]) -> list[ItemOutcome]:
        """Return the embedding or the failure of every item, with the item's position in the request."""
        refused = [
            ItemFailure(index, "not_fetched", _NOT_FETCHED)
            for index, item in enumerate(items)
            if item.is_fetched and not self._fetches
        ]
        if refused:
            raise refused_items(refused, len(items))
        images = [index for index, item in enumerate(items) if item.kind == "image"]
        texts = [index for index, item in enumerate(items) if item.kind == "text"]
        try:
            if not images:
                return await self._client.try_embed_texts([str(item.value) for item in items])
            if not texts:
                return await self._client.try_embed_images([item.value for item in items])
            of_images, of_texts = await _both(
                self._client.try_embed_images([items[index].value for index in images]),
                self._client.try_embed_texts([str(items[index].value) for index in texts]),
            )
        except TuwenError as error:
            raise self._noted(error) from error
        return [*_placed(of_images, images), *_placed(of_texts, texts)]


def _placed(outcomes: Sequence[ItemOutcome], positions: Sequence[int]) -> list[ItemOutcome]:
    """Return the outcomes of one call of the client, with the positions that the items have in the request."""
    placed: list[ItemOutcome] = []
    for outcome, index in zip(outcomes, positions, strict=True):
        if outcome.ok:
            placed.append(EmbeddedItem(index, index, outcome.embedding, outcome.truncated))
        else:
            failure = ItemFailure(index, outcome.error.reason, outcome.error.message)
            placed.append(RefusedItem(index, index, failure, outcome.truncated))
    return placed


async def _both(first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]) -> tuple[First, Second]:
    """Return the results of two concurrent calls. If one call fails, the other is cancelled."""
    tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise

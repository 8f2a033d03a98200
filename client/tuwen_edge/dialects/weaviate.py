"""The inference API of Weaviate's module multi2vec-clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from tuwen_edge.errors import EdgeError
from tuwen_edge.items import Item, image_item
from tuwen_edge.operations import Answer, Call, Dialect, Operation, Strict

__all__ = ["OPERATIONS"]


class WeaviateError(BaseModel):
    """The body of an error response for Weaviate."""

    error: str


def _error_body(error: EdgeError, request_id: str) -> Mapping[str, Any]:  # noqa: ARG001 - of a Dialect
    return {"error": error.message}


WEAVIATE = Dialect("Weaviate multi2vec-clip", WeaviateError, _error_body)


class VectorizeRequest(Strict):
    """The request to embed texts, and images in base64."""

    texts: list[str] | None = None
    images: list[str] | None = None


class VectorizeAnswer(BaseModel):
    """The response: a vector for each text and each image."""

    textVectors: list[list[float]]  # noqa: N815 - Weaviate's names
    imageVectors: list[list[float]]  # noqa: N815


async def _vectorize(call: Call, request: VectorizeRequest) -> Answer:
    texts = [Item("text", text) for text in request.texts or ()]
    items = [*texts, *(image_item(image) for image in request.images or ())]
    if not items:
        return {"textVectors": [], "imageVectors": []}
    await call.choose(None)
    embedded = await call.core.embed(items)
    call.embedded(items, embedded.truncated)
    vectors = list(embedded.vectors)
    return {"textVectors": vectors[: len(texts)], "imageVectors": vectors[len(texts) :]}


class MetaAnswer(BaseModel):
    """The description of the model that computes the vectors."""

    model: str
    fingerprint: str
    family: str
    embedding_dimension: int
    context_length: int
    image_size: int


async def _meta(call: Call) -> Answer:
    card = await call.choose(None)
    return {
        "model": call.core.name(card),
        "fingerprint": card.fingerprint,
        "family": card.family,
        "embedding_dimension": card.embedding_dimension,
        "context_length": card.context_length,
        "image_size": card.image_size,
    }


async def _ready(call: Call) -> Answer:
    if not await call.models.is_ready():
        raise EdgeError(503, "The embedding server is not ready.", code="server_unavailable", retry_after=2)
    return None


async def _live(call: Call) -> Answer:
    if call.core.is_changed:
        raise EdgeError(503, "The embedding server's model was changed; restart this edge.", code="model_changed")
    return None


OPERATIONS = (
    Operation(
        "/vectorize",
        "POST",
        WEAVIATE,
        "Embed items for Weaviate's multi2vec-clip.",
        VectorizeAnswer,
        _vectorize,
        request=VectorizeRequest,
    ),
    Operation(
        "/meta",
        "GET",
        WEAVIATE,
        "Describe the model to Weaviate.",
        MetaAnswer,
        _meta,
        statuses=(401, 500, 502, 503, 504),
    ),
    Operation(
        "/.well-known/ready",
        "GET",
        WEAVIATE,
        "Return whether the edge can answer requests.",
        None,
        _ready,
        needs_key=False,
        statuses=(500, 503),
        success=204,
    ),
    Operation(
        "/.well-known/live",
        "GET",
        WEAVIATE,
        "Return whether the edge works without a restart.",
        None,
        _live,
        needs_key=False,
        statuses=(500, 503),
        success=204,
    ),
)

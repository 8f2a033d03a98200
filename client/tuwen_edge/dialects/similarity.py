"""The edge's own operation: the similarity of every image with every text."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from tuwen_edge.dialects.openai import OPENAI, ImageObject, TextObject, Usage
from tuwen_edge.items import Item, image_item
from tuwen_edge.operations import Answer, Call, Operation, Strict

__all__ = ["OPERATIONS"]


class SimilarityRequest(Strict):
    """The request to compare images with texts.

    Attributes:
        images: the images, as base64, as ``data:`` URLs, or as web addresses of allowed hosts.
        texts: the texts to compare with the images.
    """

    images: Annotated[list[str | ImageObject], Field(min_length=1)]
    texts: Annotated[list[str | TextObject], Field(min_length=1)]
    model: str | None = None


class SimilarityAnswer(BaseModel):
    """The response: matrices with a row for each image and a column for each text.

    Attributes:
        cosine: the cosine, from -1 to 1. Cosines are comparable between requests.
        logits: the cosine times the model's logit scale.
        probabilities: the softmax of the logits over the texts of this request.
    """

    model: str
    cosine: list[list[float]]
    logits: list[list[float]]
    probabilities: list[list[float]]
    usage: Usage


async def _similarity(call: Call, request: SimilarityRequest) -> Answer:
    await call.choose(request.model)
    images = [image_item(value if isinstance(value, str) else value.image) for value in request.images]
    texts = [Item("text", value if isinstance(value, str) else value.text) for value in request.texts]
    items = [*images, *texts]
    embedded = await call.core.embed(items)
    call.embedded(items, embedded.truncated)
    scores = await call.core.compare(embedded, len(images))
    return {
        "model": embedded.model,
        "cosine": scores.cosine,
        "logits": scores.logits,
        "probabilities": scores.probabilities,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    }


OPERATIONS = (
    Operation(
        "/v1/similarity",
        "POST",
        OPENAI,
        "Compare every image with every text.",
        SimilarityAnswer,
        _similarity,
        request=SimilarityRequest,
    ),
)

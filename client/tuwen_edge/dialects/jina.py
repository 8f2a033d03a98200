"""Jina's operations: rerank sorts documents by their similarity to a query, classify labels items without training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from tuwen import Templates
from tuwen_edge.dialects.openai import OPENAI, ImageObject, TextObject, TextOrImage, Usage, item_of
from tuwen_edge.numbers import Positive
from tuwen_edge.operations import Answer, Call, Operation, Strict

__all__ = ["OPERATIONS"]


class RerankRequest(Strict):
    """The request to sort documents by their similarity to a query.

    Attributes:
        query: the text or the image to compare with the documents.
        documents: the texts or the images to sort. Do not mix texts and images: cosines between two texts are always
            larger than cosines between a text and a picture.
        top_n: the number of results to return; None: all documents are returned.
        return_documents: whether each result repeats its document.
    """

    query: TextOrImage
    documents: Annotated[list[TextOrImage], Field(min_length=1)]
    model: str | None = None
    top_n: Positive | None = None
    return_documents: bool = True


class RerankResult(BaseModel):
    """The position of a document in the request, and its cosine with the query."""

    index: int
    relevance_score: float
    document: TextObject | ImageObject | None = None


class RerankAnswer(BaseModel):
    """The response: the documents, in descending order of their cosine with the query."""

    model: str
    results: list[RerankResult]
    usage: Usage


async def _rerank(call: Call, request: RerankRequest) -> Answer:
    await call.choose(request.model)
    documents = [item_of(value) for value in request.documents]
    items = [item_of(request.query), *documents]
    embedded = await call.core.embed(items)
    call.embedded(items, embedded.truncated)
    cosines = embedded.vectors[1:] @ embedded.vectors[0]
    order = np.argsort(-cosines, kind="stable")[: request.top_n]
    results: list[dict[str, Any]] = []
    for index in order.tolist():
        result: dict[str, Any] = {"index": index, "relevance_score": float(cosines[index])}
        if request.return_documents:
            value = request.documents[index]
            if isinstance(value, str):
                result["document"] = {documents[index].kind: value}
            else:
                result["document"] = value.model_dump()
        results.append(result)
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return {"model": embedded.model, "results": results, "usage": usage}


class ClassifyRequest(Strict):
    """The request to label items without training (zero-shot).

    Attributes:
        input: the texts and images to label.
        labels: the names of the classes, such as ``cat`` and ``dog``.
        templates: ``zh``, ``en``, ``none``, or texts with ``{}`` in place of the label.
    """

    input: TextOrImage | Annotated[list[TextOrImage], Field(min_length=1)]
    labels: Annotated[list[str], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
    model: str | None = None
    templates: (
        Literal["zh", "en", "none"] | Annotated[list[Annotated[str, Field(pattern=r"\{\}")]], Field(min_length=1)]
    ) = "zh"


class LabelScore(BaseModel):
    """The probability of a label among the labels of the request."""

    label: str
    score: float


class ClassifiedItem(BaseModel):
    """The most probable label of an item, and the probabilities of all labels."""

    object: Literal["classification"]
    index: int
    prediction: str
    score: float
    predictions: list[LabelScore]


class ClassifyAnswer(BaseModel):
    """The response: the labels of the items, in the order of the request."""

    model: str
    data: list[ClassifiedItem]
    usage: Usage


async def _classify(call: Call, request: ClassifyRequest) -> Answer:
    await call.choose(request.model)
    values = request.input if isinstance(request.input, list) else [request.input]
    items = [item_of(value) for value in values]
    templates: Templates = request.templates
    embedded, scores = await call.core.classify(items, request.labels, templates)
    call.embedded(items, embedded.truncated)
    data = []
    for index, row in enumerate(scores.probabilities.tolist()):
        best = int(scores.cosine[index].argmax())
        data.append(
            {
                "object": "classification",
                "index": index,
                "prediction": request.labels[best],
                "score": row[best],
                "predictions": [
                    {"label": label, "score": score} for label, score in zip(request.labels, row, strict=True)
                ],
            }
        )
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return {"model": embedded.model, "data": data, "usage": usage}


OPERATIONS = (
    Operation(
        "/v1/rerank",
        "POST",
        OPENAI,
        "Sort pictures and texts by a query.",
        RerankAnswer,
        _rerank,
        request=RerankRequest,
    ),
    Operation(
        "/v1/classify",
        "POST",
        OPENAI,
        "Return the probabilities of the labels for each item (zero-shot).",
        ClassifyAnswer,
        _classify,
        request=ClassifyRequest,
    ),
)

"""Cohere's operation ``/v2/embed``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, Field

from tuwen_edge.encodings import EncodingFormat, encoded_vectors
from tuwen_edge.errors import EdgeError
from tuwen_edge.items import Item, image_item
from tuwen_edge.numbers import Positive, whole
from tuwen_edge.operations import Answer, Call, Dialect, Operation, Strict

__all__ = ["OPERATIONS"]


class CohereError(BaseModel):
    """The body of an error response for Cohere's clients."""

    id: str
    message: str


def _error_body(error: EdgeError, request_id: str) -> Mapping[str, Any]:
    return {"id": request_id, "message": error.message}


COHERE = Dialect("Cohere", CohereError, _error_body)


class ImageUrl(Strict):
    """An image: a ``data:`` URL, or a web address of an allowed host."""

    url: str
    detail: str | None = None


class TextContent(Strict):
    """A text in the content of an input."""

    type: Literal["text"]
    text: str


class ImageContent(Strict):
    """An image in the content of an input."""

    type: Literal["image_url"]
    image_url: ImageUrl


Content: TypeAlias = Annotated[TextContent | ImageContent, Field(discriminator="type")]


class EmbedInput(Strict):
    """One input: a text or an image. The model cannot embed both in one vector."""

    content: Annotated[list[Content], Field(min_length=1, max_length=1)]


class EmbedRequest(Strict):
    """A request of Cohere's clients: texts, images, or mixed inputs.

    Attributes:
        embedding_types: the encodings of the vectors in the response. Default: ``float``.
        truncate: ``END`` cuts long texts; ``NONE`` refuses them.
        output_dimension: the length of the vectors, which must be the model's dimension.
        input_type, max_tokens, priority: accepted because clients send them; they do not change vectors.
    """

    model: str
    input_type: str | None = None
    texts: Annotated[list[str], Field(min_length=1)] | None = None
    images: Annotated[list[str], Field(min_length=1)] | None = None
    inputs: Annotated[list[EmbedInput], Field(min_length=1)] | None = None
    embedding_types: Annotated[list[EncodingFormat], Field(min_length=1)] | None = None
    truncate: Literal["END", "NONE"] = "END"
    output_dimension: Positive | None = None
    max_tokens: Positive | None = None
    priority: Annotated[int, Field(ge=0, le=999), BeforeValidator(whole)] | None = None


class EmbeddingsByType(BaseModel):
    """The embeddings of all items, once in each requested encoding."""

    float_: list[list[float]] | None = Field(None, alias="float")
    base64: list[str] | None = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None


class ApiVersion(BaseModel):
    """The version of Cohere's API that the response follows."""

    version: str


class BilledUnits(BaseModel):
    """The estimated number of tokens of the texts, and the number of images."""

    input_tokens: float
    images: float


class Meta(BaseModel):
    """The billed units of a response, and a warning for each text that was cut."""

    api_version: ApiVersion
    billed_units: BilledUnits
    warnings: list[str] = []


class EmbedAnswer(BaseModel):
    """The response: the embeddings of all items of a request."""

    id: str
    response_type: Literal["embeddings_by_type"]
    embeddings: EmbeddingsByType
    texts: list[str]
    meta: Meta


async def _embed(call: Call, request: EmbedRequest) -> Answer:
    card = await call.choose(request.model)
    if request.output_dimension not in (None, card.embedding_dimension):
        raise EdgeError(
            422,
            f"output_dimension: expected {card.embedding_dimension}, because the vectors of this model cannot be "
            f"shortened, got {request.output_dimension}. Leave output_dimension out.",
            code="invalid_value",
            param="output_dimension",
        )
    items = _items(request)
    embedded = await call.core.embed(items, cut=request.truncate == "END")
    call.embedded(items, embedded.truncated)
    cut = [f"text {index} is longer than the context length; its end was ignored" for index in embedded.truncated]
    types = dict.fromkeys(request.embedding_types or ("float",))
    return {
        "id": call.request_id,
        "response_type": "embeddings_by_type",
        "embeddings": {form: encoded_vectors(embedded.vectors, form) for form in types},
        "texts": [item.value for item in items if item.kind == "text"],
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"input_tokens": embedded.tokens, "images": embedded.images},
            "warnings": cut,
        },
    }


def _items(request: EmbedRequest) -> list[Item]:
    given = [name for name in ("texts", "images", "inputs") if getattr(request, name) is not None]
    if len(given) != 1:
        shown = " and ".join(given) or "none of them"
        raise EdgeError(422, f"expected exactly one of texts, images and inputs, got {shown}", code="invalid_value")
    if request.texts is not None:
        return [Item("text", text) for text in request.texts]
    if request.images is not None:
        return [image_item(image) for image in request.images]
    contents = [content for one in request.inputs or () for content in one.content]
    return [
        Item("text", content.text) if isinstance(content, TextContent) else image_item(content.image_url.url)
        for content in contents
    ]


OPERATIONS = (
    Operation(
        "/v2/embed", "POST", COHERE, "Embed items for Cohere's clients.", EmbedAnswer, _embed, request=EmbedRequest
    ),
)

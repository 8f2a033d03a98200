"""OpenAI's operations for embeddings and for models.

Three extensions are accepted, too: Jina's objects for images, Infinity's parameter ``modality``, and forms
(``multipart/form-data``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.json_schema import SkipJsonSchema

from tuwen_edge.encodings import EncodingFormat, encoded_vectors
from tuwen_edge.errors import EdgeError, ErrorType
from tuwen_edge.forms import Form
from tuwen_edge.items import Item, image_item, item_of_string
from tuwen_edge.numbers import Positive
from tuwen_edge.operations import Answer, Call, Dialect, Operation, Strict

__all__ = [
    "OPENAI",
    "OPERATIONS",
    "EmbeddingsRequest",
    "ImageObject",
    "TextObject",
    "TextOrImage",
    "Usage",
    "item_of",
]


class RefusedItemObject(BaseModel):
    """An item of a request that cannot be embedded.

    Attributes:
        index: the item's position in the request, from 0.
        reason: the reason as one word for programs, such as ``corrupt``.
        message: the reason as one line for people.
    """

    index: int
    reason: str
    message: str


class ErrorObject(BaseModel):
    """An error in the form that OpenAI's clients read, with every refused item."""

    message: str
    type: ErrorType
    param: str | None
    code: str | None
    items: list[RefusedItemObject] = []


class OpenAIError(BaseModel):
    """The body of an error response for OpenAI's clients."""

    error: ErrorObject


def _error_body(error: EdgeError, request_id: str) -> Mapping[str, Any]:  # noqa: ARG001 - of a Dialect
    items = [{"index": item.index, "reason": item.reason, "message": item.message} for item in error.items]
    found = {"message": error.message, "type": error.type, "param": error.param, "code": error.code, "items": items}
    return {"error": found}


OPENAI = Dialect("OpenAI", OpenAIError, _error_body)


class TextObject(Strict):
    """A text in the form that Jina's clients send."""

    text: str


class ImageObject(Strict):
    """An image in the form that Jina's clients send: base64, a ``data:`` URL, or a web address of an allowed host."""

    image: str


TextOrImage: TypeAlias = str | TextObject | ImageObject
"""A text or an image. A string that begins with ``data:image/`` is an image, any other string is a text."""

Modality: TypeAlias = Literal["text", "image"]


def item_of(value: TextOrImage, modality: Modality | None = None) -> Item:
    """Return the item for one value of a request.

    Args:
        value: a string, or an object for a text or an image.
        modality: the kind of all strings, text or image; None: a string that begins with ``data:image/`` is an image,
            and any other string is a text.
    """
    if isinstance(value, TextObject):
        return Item("text", value.text)
    if isinstance(value, ImageObject):
        return image_item(value.image)
    if modality == "image":
        return image_item(value)
    return Item("text", value) if modality == "text" else item_of_string(value)


class Usage(BaseModel):
    """The estimated number of tokens of the texts (`tuwen_edge.items.estimate_tokens`). Images count as 0 tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsRequest(Strict):
    """A request for embeddings.

    Attributes:
        input: one item, or a list of texts and images, mixed in any order.
        model: the name of the model, with or without ``@`` and its fingerprint. Default: the model that is served.
        encoding_format: the format of the vectors in the response: numbers, or base64 of float32 values.
        dimensions: the length of the vectors, which must be the model's dimension.
        modality: whether the strings of ``input`` are texts or images, as Infinity's clients state it.
        truncate: ``END`` cuts long texts, and the header ``tuwen-truncated`` lists them; ``NONE`` refuses them.
        user, input_type, task: accepted because clients send them; they do not change vectors.
    """

    input: TextOrImage | Annotated[list[TextOrImage], Field(min_length=1)]
    model: str | None = None
    encoding_format: EncodingFormat = "float"
    dimensions: Positive | None = None
    modality: Modality | None = None
    truncate: Literal["END", "NONE"] = "END"
    user: str | None = None
    input_type: str | None = None
    task: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _check_tokens(cls, value: object) -> object:
        first = value[0] if isinstance(value, list) and value else value
        first = first[0] if isinstance(first, list) and first else first
        if isinstance(first, int) and not isinstance(first, bool):
            raise ValueError(
                "expected texts, got token IDs, which belong to the tokenizer of another model; send texts "
                "(langchain-openai: check_embedding_ctx_length=False)"
            )
        return value


def _without_default(schema: dict[str, Any]) -> None:
    """Remove the default null from a schema. A field of a form can be missing, but it cannot be null."""
    del schema["default"]


class EmbeddingsForm(BaseModel):
    """A request for embeddings as a form. Each part ``input`` is a text, or a file with an image."""

    model_config = ConfigDict(extra="forbid")

    input: list[bytes] = Field(min_length=1)
    model: str | SkipJsonSchema[None] = Field(None, json_schema_extra=_without_default)
    encoding_format: EncodingFormat = "float"
    dimensions: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(None, json_schema_extra=_without_default)
    truncate: Literal["END", "NONE"] = "END"


class EmbeddingObject(BaseModel):
    """One embedding, as a list of numbers or as base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(BaseModel):
    """The response: the embeddings of a request, in the order of the items."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: Usage


class RawItems(EmbeddingsRequest):
    """A request for embeddings that was read from a form, with its texts and images."""

    items: list[Item] = Field(default_factory=list, exclude=True)


def _of_form(form: Form) -> RawItems:
    fields = form.fields(
        {"input": True, "model": False, "encoding_format": False, "dimensions": False, "truncate": False}
    )
    values: dict[str, Any] = {name: parts[0].text() for name, parts in fields.items() if name != "input"}
    if "dimensions" in values:
        number = values["dimensions"]
        values["dimensions"] = int(number) if number.isascii() and number.isdigit() and len(number) < 1000 else number
    parts = fields.get("input", [])
    if not parts:
        raise EdgeError(
            400,
            "The form has no field 'input'; send each text or image as 'input'.",
            code="invalid_form",
            param="input",
        )
    items = [Item("image", part.data) if part.is_file else item_of_string(part.text()) for part in parts]
    return RawItems(input="form", items=items, **values)


async def _embeddings(call: Call, request: EmbeddingsRequest) -> Answer:
    card = await call.choose(request.model)
    if request.dimensions not in (None, card.embedding_dimension):
        raise EdgeError(
            422,
            f"dimensions: expected {card.embedding_dimension}, because the vectors of this model cannot be "
            f"shortened, got {request.dimensions}. Leave dimensions out.",
            code="invalid_value",
            param="dimensions",
        )
    if isinstance(request, RawItems):
        items = request.items
    else:
        values = request.input if isinstance(request.input, list) else [request.input]
        call.core.check_count(len(values))
        items = [item_of(value, request.modality) for value in values]
    embedded = await call.core.embed(items, cut=request.truncate == "END")
    call.embedded(items, embedded.truncated)
    vectors = encoded_vectors(embedded.vectors, request.encoding_format)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)],
        "model": embedded.model,
        "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
    }


class ModelObject(BaseModel):
    """The description of one name of the model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsAnswer(BaseModel):
    """The response: all names under which callers may ask for a model."""

    object: Literal["list"]
    data: list[ModelObject]


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "tuwen"}


async def _models(call: Call) -> Answer:
    names = await call.models.names()
    return {"object": "list", "data": [_model(name, call.models.started) for name in names]}


async def _one_model(call: Call) -> Answer:
    name = call.path_parameters["model"]
    await call.choose(name)
    return _model(name, call.core.started)


_READING = (401, 404, 500, 502, 503, 504)
OPERATIONS = (
    Operation(
        "/v1/embeddings",
        "POST",
        OPENAI,
        "Embed texts and images, mixed in any order.",
        EmbeddingsAnswer,
        _embeddings,
        request=EmbeddingsRequest,
        of_form=_of_form,
        form=EmbeddingsForm,
    ),
    Operation("/v1/models", "GET", OPENAI, "List the names of the model.", ModelsAnswer, _models, statuses=_READING),
    Operation(
        "/v1/models/{model}",
        "GET",
        OPENAI,
        "Describe one name of the model.",
        ModelObject,
        _one_model,
        statuses=_READING,
    ),
)

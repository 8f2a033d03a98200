"""The recognition API of MT-Photos: it embeds one picture or text per request, and reads the key from ``api-key``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tuwen_edge.errors import EdgeError
from tuwen_edge.forms import Form
from tuwen_edge.items import Item
from tuwen_edge.operations import Answer, Call, Dialect, Operation, Strict

__all__ = ["OPERATIONS"]


class PhotosError(BaseModel):
    """The body of an error response for MT-Photos."""

    detail: str


def _error_body(error: EdgeError, request_id: str) -> Mapping[str, Any]:  # noqa: ARG001 - of a Dialect
    return {"detail": error.message}


MT_PHOTOS = Dialect("MT-Photos", PhotosError, _error_body)


class TextRequest(Strict):
    """The request to embed a text."""

    text: str


class PictureForm(BaseModel):
    """The form to embed a picture, which is sent as a file."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[bytes, Field(description="The encoded picture.")]


class Picture(Strict):
    """The request to embed a picture, as read from a form."""

    file: bytes


class VectorAnswer(BaseModel):
    """The response: a vector whose components are strings, or the reason why the item was refused.

    Attributes:
        result: the components of the vector; empty if the item was refused.
        results: a copy of ``result``, under the name that the documentation of MT-Photos gives.
        msg: the reason why the item was refused; None: the item was embedded.
    """

    result: list[str]
    results: list[str]
    msg: str | None = None


async def _embedded(call: Call, item: Item) -> Answer:
    """Embed an item, and return the response. For a refused item, MT-Photos expects status 200 and an empty result."""
    try:
        await call.choose(None)
        embedded = await call.core.embed([item])
    except EdgeError as error:
        if not error.items:
            raise
        return {"result": [], "results": [], "msg": error.message}
    call.embedded([item], embedded.truncated)
    numbers = [f"{value:.16f}" for value in embedded.vectors[0].tolist()]
    return {"result": numbers, "results": numbers}


async def _text(call: Call, request: TextRequest) -> Answer:
    return await _embedded(call, Item("text", request.text))


async def _picture(call: Call, request: Picture) -> Answer:
    return await _embedded(call, Item("image", request.file))


def _of_form(form: Form) -> Picture:
    parts = form.fields({"file": False}).get("file")
    if not parts:
        raise EdgeError(
            400, "The form has no field 'file'; send the picture as 'file'.", code="invalid_form", param="file"
        )
    return Picture(file=parts[0].data)


class CheckAnswer(BaseModel):
    """The response that says that the service runs and the key is valid."""

    result: Literal["pass"]


async def _check(call: Call) -> Answer:
    await call.choose(None)
    return {"result": "pass"}


class RestartAnswer(BaseModel):
    """The response to a request to restart. The edge never restarts, because a restart would free no memory."""

    result: Literal["unsupported"]


async def _restart(call: Call) -> Answer:  # noqa: ARG001 - of an Operation
    return {"result": "unsupported"}


_CHECKING = (401, 500, 502, 503, 504)
OPERATIONS = (
    Operation("/clip/txt", "POST", MT_PHOTOS, "Embed a text for MT-Photos.", VectorAnswer, _text, request=TextRequest),
    Operation(
        "/clip/img",
        "POST",
        MT_PHOTOS,
        "Embed a picture for MT-Photos.",
        VectorAnswer,
        _picture,
        of_form=_of_form,
        form=PictureForm,
    ),
    Operation("/check", "POST", MT_PHOTOS, "Check the API key.", CheckAnswer, _check, statuses=_CHECKING),
    Operation(
        "/restart", "POST", MT_PHOTOS, "Do nothing. MT-Photos calls it.", RestartAnswer, _restart, statuses=_CHECKING
    ),
    Operation(
        "/restart_v2",
        "POST",
        MT_PHOTOS,
        "Do nothing. MT-Photos calls it.",
        RestartAnswer,
        _restart,
        statuses=_CHECKING,
    ),
)

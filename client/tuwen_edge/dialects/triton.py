"""The part of Triton's HTTP inference protocol that LiteLLM's provider ``triton/`` uses to embed texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from tuwen.model_names import name_and_model
from tuwen_edge.errors import EdgeError
from tuwen_edge.items import item_of_string
from tuwen_edge.numbers import Positive
from tuwen_edge.operations import Answer, Call, Dialect, Operation, Strict

__all__ = ["OPERATIONS"]


class TritonError(BaseModel):
    """The body of an error response for clients of Triton."""

    error: str


def _error_body(error: EdgeError, request_id: str) -> Mapping[str, Any]:  # noqa: ARG001 - of a Dialect
    return {"error": error.message}


TRITON = Dialect("Triton", TritonError, _error_body)


class InputTensor(Strict):
    """The only input tensor, with strings. A string that begins with ``data:image/`` is an image.

    The shape is not checked, because LiteLLM sends the number of characters as the shape of a single text.
    """

    name: Literal["input_text"]
    shape: list[Positive]
    datatype: Literal["BYTES"]
    data: Annotated[list[str], Field(min_length=1)] | str


class InferRequest(Strict):
    """An inference request, as LiteLLM sends it."""

    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]
    id: str | None = None


class OutputTensor(BaseModel):
    """The only output tensor: the numbers of all embeddings, in the order of the strings."""

    name: Literal["embedding"]
    datatype: Literal["FP32"]
    shape: list[int]
    data: list[float]


class InferAnswer(BaseModel):
    """The response to an inference request."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


async def _infer(call: Call, request: InferRequest) -> Answer:
    name = call.path_parameters["model"]
    split = name_and_model(name)
    await call.choose((split[0] or None) if split is not None and split[1] == "text_embedding" else name)
    [tensor] = request.inputs
    items = [item_of_string(value) for value in ([tensor.data] if isinstance(tensor.data, str) else tensor.data)]
    embedded = await call.core.embed(items)
    call.embedded(items, embedded.truncated)
    output = {
        "name": "embedding",
        "datatype": "FP32",
        "shape": list(embedded.vectors.shape),
        "data": embedded.vectors.reshape(-1),
    }
    answer_id = request.id if request.id is not None else call.request_id
    return {"model_name": name, "model_version": "1", "id": answer_id, "outputs": [output]}


OPERATIONS = (
    Operation(
        "/v2/models/{model}/infer",
        "POST",
        TRITON,
        "Embed texts for LiteLLM's provider triton/.",
        InferAnswer,
        _infer,
        request=InferRequest,
    ),
)

"""Operations: the paths of the edge, each with the pydantic models of its request and of its response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from tuwen import ModelCard
from tuwen_edge.core import Core
from tuwen_edge.errors import EdgeError
from tuwen_edge.forms import Form
from tuwen_edge.items import Item
from tuwen_edge.models import Models

__all__ = ["Answer", "Call", "Dialect", "Operation", "Strict"]

Answer: TypeAlias = "dict[str, Any] | list[Any] | None"
"""The body of a response as a value for JSON, which may contain NumPy arrays. None: a response without a body."""


class Strict(BaseModel):
    """The base class of request models: unknown fields are refused, and no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass
class Call:
    """The data of one request that an operation reads and writes.

    Attributes:
        core: the `Core` of the chosen model; before a choice, that of the default model.
        models: the models of the embedding server.
        request_id: the request ID from the caller, or a new one.
        path_parameters: the values of the parameters in the path.
        headers: the response headers that the operation adds.
        items: the embedded items, for metrics and the log.
    """

    core: Core
    models: Models
    request_id: str
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    async def choose(self, asked: str | None) -> ModelCard:
        """Choose the model that the request names, and return the card of this model.

        Args:
            asked: the name of the model; None: the default model.

        Raises:
            EdgeError: there is no such model, or the server failed.
        """
        self.core = await self.models.choose(asked)
        return await self.core.card()

    def embedded(self, items: list[Item], truncated: tuple[int, ...]) -> None:
        """Record the embedded items, and add a header that lists the texts that were cut."""
        self.items += items
        if truncated:
            self.headers["tuwen-truncated"] = ",".join(map(str, truncated[:100]))


@dataclass(frozen=True)
class Dialect:
    """The HTTP API of another service, which the edge offers to that service's clients.

    Attributes:
        name: the API's name in the OpenAPI description, such as ``OpenAI``.
        error: the pydantic model of an error response's body.
        error_body: a function that returns the body for an error and the ID of the request.
    """

    name: str
    error: type[BaseModel]
    error_body: Callable[[EdgeError, str], Mapping[str, Any]]


@dataclass(frozen=True)
class Operation:
    """One path and HTTP method of the edge.

    Attributes:
        path: the path, or a template such as ``/v1/models/{model}``.
        method: the HTTP method.
        dialect: the API to which the path belongs, which formats errors.
        summary: one sentence for the OpenAPI description.
        answer: the pydantic model of the response; None: the response has status 204 and no body.
        run: a function that computes the response. Its arguments are the call and, if the path takes a body, the
            request.
        request: the pydantic model of a JSON body; None: the path takes no JSON.
        of_form: a function that converts a form to a request; None: forms are refused.
        form: the pydantic model that describes the form in the OpenAPI description; None: forms are refused.
        needs_key: whether the operation requires a key, if the edge has keys.
        statuses: the HTTP statuses of possible errors.
        success: the HTTP status of a successful response.
    """

    path: str
    method: Literal["GET", "POST"]
    dialect: Dialect
    summary: str
    answer: type[BaseModel] | None
    run: Callable[..., Awaitable[Answer]]
    request: type[BaseModel] | None = None
    of_form: Callable[[Form], BaseModel] | None = None
    form: type[BaseModel] | None = None
    needs_key: bool = True
    statuses: tuple[int, ...] = (400, 401, 404, 408, 413, 415, 422, 429, 500, 502, 503, 504)
    success: int = 200

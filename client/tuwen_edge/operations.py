"""Operations: the paths of the interface, each with the models of its request and of its answer."""

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
"""A value for JSON, which may contain NumPy arrays. None: a response without a body."""


class Strict(BaseModel):
    """The base of requests: unknown fields are refused, and no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass
class Call:
    """The view of a request that operations have.

    Attributes:
        core: embeds items with the chosen model, at first the default model.
        models: the models of the embedding server.
        request_id: the request ID from the caller, or a new one.
        path_parameters: the values of the parameters in the path.
        headers: the headers of the response, to which operations add.
        items: the embedded items, for metrics and the log.
    """

    core: Core
    models: Models
    request_id: str
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    async def choose(self, asked: str | None) -> ModelCard:
        """Choose the model that a caller asks for; None: the default model. Return its card.

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
    """The interface of another service that the edge speaks.

    Attributes:
        name: the name in the description of the interface.
        error: the model of its errors.
        error_body: converts an error to this model.
    """

    name: str
    error: type[BaseModel]
    error_body: Callable[[EdgeError, str], Mapping[str, Any]]


@dataclass(frozen=True)
class Operation:
    """One path of the interface.

    Attributes:
        path: a template, such as ``/v1/models/{model}``.
        method: the HTTP method.
        dialect: the dialect, which formats errors.
        summary: one sentence for the description of the interface.
        answer: the model of the response; None: a response without a body, status 204.
        run: computes the response. Its arguments are the call and, if there is a request model, the request.
        request: the model of a JSON body; None: the operation has no body.
        of_form: converts a form to a request; None: forms are refused.
        form: the model that describes the form.
        needs_key: whether the operation requires a key, if the edge has keys.
        statuses: the statuses of possible errors.
        success: the status of a successful response.
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

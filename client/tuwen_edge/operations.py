"""Operations: the paths of the interface, each with the models of its request and of its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from tuwen_edge.core import Core
from tuwen_edge.errors import EdgeError
from tuwen_edge.forms import Form
from tuwen_edge.items import Item

__all__ = ["Answer", "Call", "Dialect", "Operation", "Strict"]

Answer: TypeAlias = "dict[str, Any] | list[Any] | None"
"""What becomes JSON; arrays of NumPy are allowed in it. None: an answer without a body."""


class Strict(BaseModel):
    """The base of requests: unknown fields are refused, and no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


@dataclass
class Call:
    """One request, as operations see it.

    Attributes:
        core: embeds items.
        request_id: of the caller, or made up.
        path_parameters: the parts of the path that its template names.
        headers: of the answer; operations add to them.
        items: the items that were embedded, for metrics and the log.
    """

    core: Core
    request_id: str
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)

    def embedded(self, items: list[Item], truncated: tuple[int, ...]) -> None:
        """Note which items were embedded, and tell the caller which texts were cut."""
        self.items += items
        if truncated:
            self.headers["tuwen-truncated"] = ",".join(map(str, truncated[:100]))


@dataclass(frozen=True)
class Dialect:
    """The interface of another service that the edge speaks.

    Attributes:
        name: for the description of the interface.
        error: the model of its errors.
        error_body: gives an error the shape of the model.
    """

    name: str
    error: type[BaseModel]
    error_body: Callable[[EdgeError, str], Mapping[str, Any]]


@dataclass(frozen=True)
class Operation:
    """One path of the interface.

    Attributes:
        path: a template, such as ``/v1/models/{model}``.
        method: of HTTP.
        dialect: decides what errors look like.
        summary: one sentence for the description of the interface.
        answer: the model of the answer; None: an answer without a body, 204.
        run: does the work: takes the call and the request, or only the call where there is no request.
        request: the model of a body of JSON; None: there is none.
        of_form: makes a request of a form; None: forms are refused.
        form: the model that describes the form.
        needs_key: whether a caller needs a key, where keys are used.
        statuses: the statuses of errors that can happen.
        success: the status of an answer.
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

"""Errors of requests with their HTTP statuses. Each HTTP API of the edge formats the errors in its own form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from tuwen import (
    AccessDeniedError,
    ClientClosedError,
    DeadlineExceededError,
    EmbeddingSpaceError,
    InvalidArgumentError,
    InvalidItemsError,
    ItemFailure,
    ModelNotFoundError,
    OverloadedError,
    ServerUnavailableError,
    TuwenError,
)

__all__ = ["STATUSES", "EdgeError", "ErrorType", "edge_error", "refused_items"]

ErrorType: TypeAlias = Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]

STATUSES: dict[int, str] = {
    400: "The request does not have the form that this interface describes.",
    401: "The API key is missing or unknown.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large, or has too many items.",
    415: "This interface does not accept the media type of the body.",
    422: "Some items or parameters are invalid; the error names them.",
    429: "The server is busy; try again after the seconds in the header Retry-After.",
    500: "The edge failed.",
    502: "The embedding server failed on this request.",
    503: "The embedding server cannot be reached, or its model was changed.",
    504: "The embedding server did not answer in time.",
}
"""The HTTP statuses of errors with their meanings, for the OpenAPI description."""


class EdgeError(Exception):
    """An error response to a request.

    Attributes:
        status: the HTTP status.
        message: one or more sentences for people.
        code: the kind of the error as one word for programs, such as ``overloaded``.
        param: the invalid part of the request, such as ``input[3]``; None: the error is not about one part.
        items: the refused items, with their positions in the request.
        retry_after: seconds until a retry can help; None: a retry cannot help.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        items: Sequence[ItemFailure] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.items = tuple(items)
        self.retry_after = retry_after

    @property
    def type(self) -> ErrorType:
        """The error's type in OpenAI's API, such as ``invalid_request_error``, which depends on the status."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"


def refused_items(failures: Sequence[ItemFailure], total: int) -> EdgeError:
    """Return the error that names every refused item of a request.

    Args:
        failures: the refused items (at least one), with their positions in the request and the reasons.
        total: the number of items in the request.
    """
    shown = "; ".join(f"item {failure.index}: {failure.message}" for failure in failures[:10])
    more = f"; and {len(failures) - 10} more" if len(failures) > 10 else ""
    return EdgeError(
        422,
        f"{len(failures)} of {total} items cannot be embedded: {shown}{more}",
        code=failures[0].reason,
        param=f"input[{failures[0].index}]",
        items=failures,
    )


def edge_error(error: TuwenError) -> EdgeError:
    """Return the error response for an error of the SDK.

    The response does not show the address, the headers or the models of the embedding server.
    """
    if isinstance(error, InvalidItemsError):
        return refused_items(error.failures, error.total)
    if isinstance(error, InvalidArgumentError):
        return EdgeError(422, str(error), code="invalid_value")
    for kind, make in _MADE.items():
        if isinstance(error, kind):
            return make()
    return EdgeError(502, "The embedding server failed on this request.", code="server_failed")


_MADE: Mapping[type[TuwenError], Callable[[], EdgeError]] = {
    OverloadedError: lambda: EdgeError(
        429, "The embedding server is busy. Try again later.", code="overloaded", retry_after=1
    ),
    DeadlineExceededError: lambda: EdgeError(504, "The embedding server did not answer in time.", code="timeout"),
    ServerUnavailableError: lambda: EdgeError(
        503, "The embedding server cannot be reached.", code="server_unavailable", retry_after=2
    ),
    ClientClosedError: lambda: EdgeError(503, "The edge is stopping.", code="stopping", retry_after=2),
    EmbeddingSpaceError: lambda: EdgeError(
        503,
        "The model of the embedding server was changed, so its vectors belong to another embedding space. Restart "
        "the edge, and embed again everything that is compared with the new vectors.",
        code="embedding_space_changed",
    ),
    AccessDeniedError: lambda: EdgeError(
        502, "The embedding server refused the credentials of this edge.", code="access_denied"
    ),
    ModelNotFoundError: lambda: EdgeError(
        502, "The embedding server does not serve a tuwen repository.", code="no_repository"
    ),
}

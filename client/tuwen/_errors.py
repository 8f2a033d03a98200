"""The tree of all errors.

::

    TuwenError
    ├── InvalidArgumentError (ValueError)   the call itself is invalid: an empty list, an unknown image type
    ├── InvalidItemsError (ValueError)      items that the server or the SDK refused, each with its reason
    ├── ClientClosedError (RuntimeError)    the client was closed: make a new one
    ├── EventLoopError (RuntimeError)       an AsyncClient was called from a second event loop
    ├── ForkError (RuntimeError)            the process was forked while its parent had calls in flight
    ├── EmbeddingSpaceError (ValueError)    the vectors belong to another model and cannot be compared
    ├── ServerError                         the server or the connection failed; holds model, code, request ID and items
    │   ├── ServerUnavailableError *        the server does not respond, or is starting
    │   │   └── ServerStoppingError *       the server is shutting down and rejected the request
    │   ├── OverloadedError *               the queue is full, the request waited in it too long, or memory is short
    │   ├── DeadlineExceededError           the call's time budget is used up
    │   ├── AddressError                    the address does not speak gRPC, or needs other encryption
    │   ├── AccessDeniedError               the key or certificate was refused, by TLS or by a restricted protocol
    │   ├── ModelNotFoundError              the server runs, but does not have the model
    │   └── InferenceError                  the server failed on this request, or its response is invalid
    └── MissingExtraError (ImportError)     a command needs an extra that is not installed

The packages that build, serve and search add further classes; see their modules ``errors``.

``*`` the same request may succeed later or on another server: ``error.retryable`` is true.
"""

from __future__ import annotations

from tuwen.failures import ItemFailure

__all__ = [
    "AccessDeniedError",
    "AddressError",
    "ClientClosedError",
    "DeadlineExceededError",
    "EmbeddingSpaceError",
    "EventLoopError",
    "ForkError",
    "InferenceError",
    "InputShapeError",
    "InvalidArgumentError",
    "InvalidItemsError",
    "MissingExtraError",
    "ModelNotFoundError",
    "OverloadedError",
    "ServerError",
    "ServerStoppingError",
    "ServerUnavailableError",
    "TuwenError",
]


class TuwenError(Exception):
    """The base class of all errors of this package: ``except TuwenError`` catches each of them."""

    retryable: bool = False


class InvalidArgumentError(TuwenError, ValueError):
    """The call itself is invalid, such as an empty list or an unknown image type. Nothing was sent."""


class ClientClosedError(TuwenError, RuntimeError):
    """The client was closed; make a new one."""

    def __str__(self) -> str:
        return "the client is closed"


class EventLoopError(TuwenError, RuntimeError):
    """An `AsyncClient` was called from a second event loop; make one client in each loop."""


class ForkError(TuwenError, RuntimeError):
    """A client was used in a process that was forked while calls were in flight in its parent.

    Fork before the first call or between calls, or start processes with the method ``spawn`` or ``forkserver`` of
    multiprocessing.
    """


class InvalidItemsError(TuwenError, ValueError):
    """Some items of a call were refused, so the call returned nothing. The other items were valid.

    Attributes:
        kind: the kind of the items, ``image`` or ``text``.
        failures: the refused items, in order.
        total: the number of items of the call.
    """

    def __init__(self, kind: str, failures: tuple[ItemFailure, ...], total: int) -> None:
        self.kind = kind
        self.failures = failures
        self.total = total
        super().__init__(kind, failures, total)

    def __str__(self) -> str:
        return f"{len(self.failures)} of {self.total} {self.kind}s refused: {'; '.join(map(str, self.failures))}"


_REMEDY = "start the server of that model, or embed everything again with one model"


class EmbeddingSpaceError(TuwenError, ValueError):
    """Vectors belong to different embedding spaces, so their cosines have no meaning.

    A client keeps the space of its first response. To use another model, make a new client and embed everything again.

    Attributes:
        expected: the fingerprint of the required space.
        found: the fingerprint of the space that the vectors have; empty: the server rejected the request.
        where: the name of the vectors in the message, such as ``the server's vectors``.
    """

    def __init__(self, expected: str, found: str, where: str = "the server's vectors") -> None:
        self.expected = expected
        self.found = found
        self.where = where
        super().__init__(expected, found, where)

    def __str__(self) -> str:
        if not self.found:
            return f"{self.where} belong to another embedding space than {self.expected}; {_REMEDY}"
        return f"{self.where} belong to the embedding space {self.found}, expected {self.expected}; {_REMEDY}"


class ServerError(TuwenError):
    """The server or the connection failed.

    Attributes:
        model: the name of the Triton model that was called; None: the call concerned no model.
        code: the name of the gRPC status, such as ``UNAVAILABLE``; empty: the error has no status.
        request_id: the ID of the request in the server's log; empty: the call had no ID.
        items: the positions of the request's images or texts in the call or stream.
    """

    def __init__(
        self,
        message: str,
        *,
        model: str | None = None,
        code: str = "",
        request_id: str = "",
        items: tuple[int, ...] = (),
    ) -> None:
        self.model = model
        self.code = code
        self.request_id = request_id
        self.items = items
        super().__init__(message)

    def __str__(self) -> str:
        items = self.items and f"items {self.items[0]} to {self.items[-1]}"
        model = self.model and f"model {self.model}"
        details = ", ".join(part for part in (model, self.code, self.request_id, items) if part)
        return f"{self.args[0]} ({details})" if details else str(self.args[0])


class ServerUnavailableError(ServerError):
    """The server does not respond, or is starting or stopping. A retry can help."""

    retryable = True


class ServerStoppingError(ServerUnavailableError):
    """The server is shutting down and rejected the request. A retry can help."""


class OverloadedError(ServerError):
    """The server refused the request to protect itself. A retry, after a pause, can help."""

    retryable = True


class DeadlineExceededError(ServerError):
    """The call's time budget is used up; a retry needs a larger ``timeout``."""


class AddressError(ServerError):
    """The address responds, but without gRPC or with other encryption. A retry cannot help."""


class AccessDeniedError(ServerError):
    """The server refused the credentials, or TLS refused the server's certificate. A retry cannot help."""


class ModelNotFoundError(ServerError):
    """The server does not have the model, for example because ``tuwen build`` did not make the server's repository."""


class InferenceError(ServerError):
    """The server failed on this request, or the SDK does not understand the response."""


class InputShapeError(InferenceError):
    """The server's model requires inputs of another shape. Clients convert this error to `EmbeddingSpaceError`."""


class MissingExtraError(TuwenError, ImportError):
    """A command needs an extra that is not installed; the message names the extra."""

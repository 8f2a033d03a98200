"""Messages to a visitor about a failure: what failed and what to do, in the visitor's language.

The texts of errors stay in the server's log, because they may hold paths and addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

from tuwen import (
    AccessDeniedError,
    AddressError,
    DeadlineExceededError,
    EmbeddingSpaceError,
    InvalidItemsError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    TuwenError,
)
from tuwen_search.errors import CollectionNotFoundError, QueryError, StoreError
from tuwen_search.web._words import Words

__all__ = ["Message", "message_of"]


@dataclass(frozen=True)
class Message:
    """One message to a visitor.

    Attributes:
        text: what failed, and what to do.
        retry: whether the page tries again by itself.
        status: the HTTP status of the response. If a page has several messages, the worst one decides.
    """

    text: str
    retry: bool = False
    status: int = 200


def message_of(error: TuwenError, words: Words) -> Message:
    """Return the message about an error."""
    away = isinstance(error, ServerError) and (error.retryable or isinstance(error, DeadlineExceededError))
    unreadable = isinstance(error, InvalidItemsError) and error.kind == "image"
    for fits, message in (
        (unreadable, Message(words.no_picture, status=400)),
        (isinstance(error, QueryError), Message(words.same, status=400)),  # the page has checked everything else
        (isinstance(error, EmbeddingSpaceError), Message(words.model_other, status=503)),
        (isinstance(error, OverloadedError), Message(words.model_busy, retry=True, status=503)),
        (isinstance(error, (StoreError, CollectionNotFoundError)), Message(words.store_away, retry=True, status=503)),
        # The page tries again, because the operator may have mended it.
        (
            isinstance(error, (AddressError, AccessDeniedError, ModelNotFoundError)),
            Message(words.model_wrong, retry=True, status=503),
        ),
        (away, Message(words.model_away, retry=True, status=503)),
    ):
        if fits:
            return message
    return Message(words.failed, status=500)

"""Messages to a visitor about a failure: what failed and what to do, in the visitor's language.

The texts of errors stay in the server's log, because they may contain paths and addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
from tuwen_search.web._address import Address
from tuwen_search.web._words import Words

__all__ = ["Message", "about_picture", "message_of"]


@dataclass(frozen=True)
class Message:
    """One message to a visitor.

    Attributes:
        text: one or two sentences that say what failed and what to do.
        retry: whether the page tries again automatically.
        status: the HTTP status of the response. If a page has several messages, the worst one decides.
        action: the text of a link that solves the problem; empty without such a link.
        href: the address of this link.
        choose: whether the message offers to choose another picture.
    """

    text: str
    retry: bool = False
    status: int = 200
    action: str = ""
    href: str = ""
    choose: bool = False


def message_of(error: TuwenError, words: Words, address: Address | None = None) -> Message:
    """Return the message to a visitor about an error, in the language of the given words.

    Args:
        address: the address of the page, for the link of the message; None: the message has no link.
    """
    href = address.href(page=address.page) if address else ""
    again = (words.try_again, href) if href else ("", "")
    away = isinstance(error, ServerError) and (error.retryable or isinstance(error, DeadlineExceededError))
    unreadable = isinstance(error, InvalidItemsError) and error.kind == "image"
    for fits, message in (
        (unreadable, about_picture(words.no_picture, words, address, status=400)),
        # The page has already checked all other causes of a QueryError.
        (isinstance(error, QueryError), _linked(words.same, words.remove_without, address, without=())),
        (isinstance(error, EmbeddingSpaceError), Message(words.model_other, False, 503, *again)),
        (isinstance(error, OverloadedError), Message(words.model_busy, retry=True, status=503)),
        (isinstance(error, (StoreError, CollectionNotFoundError)), Message(words.store_away, retry=True, status=503)),
        # The page tries again, because the operator may have solved the problem.
        (
            isinstance(error, (AddressError, AccessDeniedError, ModelNotFoundError)),
            Message(words.model_wrong, retry=True, status=503),
        ),
        (away, Message(words.model_away, retry=True, status=503)),
    ):
        if fits:
            return message
    return Message(words.failed, False, 500, *again)


def about_picture(text: str, words: Words, address: Address | None, *, status: int) -> Message:
    """Return a message about an uploaded picture that cannot be used.

    The message offers to choose a picture. A link leads to the query without the picture.

    Args:
        text: the text of the message.
        words: the texts of the page.
        address: the address of the page, for the link; None: the message has no link.
        status: the HTTP status of the response.
    """
    if address is None:
        return Message(text, status=status, choose=True)
    action = words.words_only if address.text else words.remove_picture
    return Message(text, False, status, action, address.href(picture=""), choose=True)


def _linked(text: str, action: str, address: Address | None, **changes: Any) -> Message:
    """Return a message about an invalid query, with a link to the query without the invalid part."""
    return Message(text, False, 400, action, address.href(**changes)) if address else Message(text, status=400)

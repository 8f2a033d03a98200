"""The response to a visitor: the page as HTML."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tuwen import EmbeddingSpaceError, ModelCard, TuwenError
from tuwen_search.errors import CollectionNotFoundError
from tuwen_search.web._address import LONGEST_TEXT, Address, filter_text
from tuwen_search.web._least import least_control, least_default
from tuwen_search.web._messages import Message, message_of
from tuwen_search.web._results import LAST_PAGE, MOST_COUNTED, PAGE, Shown, fill
from tuwen_search.web._service import Service
from tuwen_search.web._suggestions import written_in
from tuwen_search.web._translations import WORDS
from tuwen_search.web._view import page_numbers

__all__ = ["response_of"]

_LONGEST_QUERY = 60
_log = logging.getLogger("tuwen.web")
_templates = Environment(
    loader=PackageLoader("tuwen_search.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


async def response_of(
    service: Service | None, address: Address, *, messages: Sequence[Message] = (), long_text: bool = False
) -> tuple[str, int]:
    """Return the page at an address as HTML, and the status of the response.

    Args:
        service: the state that all visitors share; None: it could not be opened, and `messages` says why.
        address: the visitor's request.
        messages: the messages to show above the results.
        long_text: whether the visitor's text was cut to the maximum length.
    """
    words = WORDS[address.language]
    if service is not None:
        address = address.defaulted(least_default(service, address))
    shown = Shown(messages=list(messages), spoken=address.language)
    if long_text:
        shown.messages.append(Message(words.too_long.format(limit=LONGEST_TEXT)))
    if service is not None:
        try:
            await fill(service, address, shown)
        except TuwenError as error:
            _log.warning("cannot answer a visitor: %s", error)
            service.replaced = isinstance(error, (EmbeddingSpaceError, CollectionNotFoundError))
            shown.messages.append(message_of(error, words, address))
    return _rendered(service, address, shown), max((message.status for message in shown.messages), default=200)


def _rendered(service: Service | None, address: Address, shown: Shown) -> str:
    """Return the page as HTML."""
    words = WORDS[address.language]
    pages = min(-(-(shown.total or 0) // PAGE), LAST_PAGE)
    counted = f"{shown.total or 0:,}"
    default = least_default(service, address) if service else None
    if shown.least is not None and (shown.total or 0) >= MOST_COUNTED:
        counted = words.more_than.format(total=MOST_COUNTED)
    return _templates.get_template("page.html").render(
        words=words,
        address=address,
        shown=shown,
        counted=counted,
        least=least_control(service, address, _best(address, shown)) if service and address.asks else None,
        everything=address.href(min_score=None if default is None else -1.0),
        earlier=_earlier(address, shown),
        filter_text=filter_text,
        labels_given=WORDS[shown.spoken].labels_given,
        look_for=words.look_for if shown.spoken == address.language else words.look_for_other,
        suggest_other=shown.subjects.other_language and not written_in(address.text, shown.spoken),
        number=lambda value: f"{value:,.15g}",
        pages=pages,
        numbers=page_numbers(address.page, pages),
        first=(address.page - 1) * PAGE + 1,
        retry=any(message.retry for message in shown.messages),
        other_language=address.href(language="en" if address.language == "zh" else "zh"),
        upload_mib=service.upload_mib if service else 0,
        card=_card(service.card) if service else {},
    )


def _earlier(address: Address, shown: Shown) -> str:
    """Return the sentence about the pictures of this page that is shown while a later search fails."""
    words = WORDS[address.language]
    query = " · ".join(filter(None, [address.text, *(chip.text for chip in shown.chips)]))
    if not shown.tiles or not query:
        return words.sample if shown.tiles else ""
    return words.earlier.format(query=query if len(query) <= _LONGEST_QUERY else f"{query[:_LONGEST_QUERY]}…")


def _best(address: Address, shown: Shown) -> float | None:
    """Return the score of the best picture of a search; None if this score is unknown."""
    if shown.best is None and address.page == 1 and shown.results:
        return shown.tiles[0].score
    return shown.best


def _card(card: ModelCard) -> Mapping[str, Any]:
    """Return the footer's line about the model. It shows only the last part of a checkpoint's path on the server."""
    name = card.checkpoint
    is_path = name.startswith(("/", ".", "~")) or "\\" in name or ":" in name[:3]
    return {
        "checkpoint": name.replace("\\", "/").rstrip("/").rpartition("/")[2] if is_path else name,
        "dimension": card.embedding_dimension,
        "precision": card.precision,
        "fingerprint": card.fingerprint[:8],
    }

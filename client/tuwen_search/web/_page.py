"""One response: the visitor's request, the search, and the page that shows the results."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tuwen import AsyncClient, ModelCard, TuwenError
from tuwen_search.collection import AsyncCollection
from tuwen_search.query import Hit, Query, Results
from tuwen_search.records import Picture
from tuwen_search.web._address import LONGEST_TEXT, Address, phrases
from tuwen_search.web._files import file_of
from tuwen_search.web._filters import Facet
from tuwen_search.web._messages import Message, message_of
from tuwen_search.web._suggestions import Suggestions
from tuwen_search.web._uploads import Uploads
from tuwen_search.web._view import Chip, Tile, page_numbers, tile_of, weights_of
from tuwen_search.web._words import WORDS

__all__ = ["PAGE", "Service", "response_of"]

PAGE = 24
"""The number of pictures on one page."""
_LAST_PAGE = 16_384 // PAGE  # the store finds no picture behind the 16,384th
_MOST_COUNTED = 1_000  # by a search with a smallest score
_MOST_LABELS = 30
_log = logging.getLogger("tuwen.web")
_templates = Environment(
    loader=PackageLoader("tuwen_search.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass
class Service:
    """The state shared by all visitors.

    Attributes:
        client: the client of the embedding server.
        collection: the collection that is searched.
        card: the description of the model.
        upload_mib: the maximum size of a picture to search with.
        uploads: the pictures that visitors sent.
        suggestions: subjects, pictures and filters for a visitor who has not searched yet.
        roots: the folders whose pictures are shown in full, resolved.
        previews: a lock that is held while an upload is decoded, so that one upload at a time needs memory.
    """

    client: AsyncClient
    collection: AsyncCollection
    card: ModelCard
    upload_mib: int
    uploads: Uploads
    suggestions: Suggestions
    roots: Sequence[Path] = ()
    previews: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))


@dataclass
class _Shown:
    """All values that the template shows."""

    messages: list[Message] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    opened: str = ""
    answers: list[tuple[str, float]] = field(default_factory=list)
    chips: list[Chip] = field(default_factory=list)
    subjects: Sequence[str] = ()
    facets: Sequence[Facet] = ()
    estimated: bool = False
    count: int | None = None
    total: int | None = None
    results: int = 0
    best: float | None = None
    found: Results | None = None


async def response_of(
    service: Service | None, address: Address, *, messages: Sequence[Message] = (), long_text: bool = False
) -> tuple[str, int]:
    """Return the page at an address as HTML, and the status of the response.

    Args:
        service: the shared state; None if it could not be opened, and then the messages say why.
        address: the visitor's request.
        messages: the messages above the results.
        long_text: whether the visitor's text was cut to the maximum length.
    """
    words = WORDS[address.language]
    shown = _Shown(messages=list(messages))
    if long_text:
        shown.messages.append(Message(words.too_long.format(limit=LONGEST_TEXT)))
    if service is not None:
        try:
            await _fill(service, address, shown)
        except TuwenError as error:
            _log.warning("cannot answer a visitor: %s", error)
            shown.messages.append(message_of(error, words))
    return _rendered(service, address, shown), max((message.status for message in shown.messages), default=200)


async def _fill(service: Service, address: Address, shown: _Shown) -> None:
    """Search, and fill in all values that the page shows."""
    words = WORDS[address.language]
    shown.chips = await _chips(service, address)
    shown.count = await service.collection.count()
    filters = await service.suggestions.filters(shown.count)
    shown.facets, shown.estimated = filters.facets(address.filters), filters.estimated
    where, known = filters.where(address.filters)
    if not known:
        shown.messages.append(Message(words.filter_lost))
    if not address.asks and where:
        await _browse(service, address, shown, where)
        return
    if not address.asks:
        sample: list[tuple[Picture, Hit | None]] = [(picture, None) for picture in await service.suggestions.pictures()]
        await _show(service, address, shown, sample, weights=())
        shown.subjects = await service.suggestions.subjects(address.language)
        return
    upload = service.uploads.get(address.picture) if address.picture else None
    refusal = None
    if address.text in address.without:
        refusal = Message(words.both.format(text=address.text), status=400)
    elif address.picture and upload is None:
        refusal = Message(words.forgotten, status=410)
    elif address.like and await service.collection.get(address.like) is None:
        refusal = Message(words.gone, status=410)
    elif address.page > _LAST_PAGE:
        refusal = _too_far(address)
    if refusal is not None:
        shown.messages.append(refusal)
        return
    query = Query(
        address.text,
        image=upload.data if upload else None,
        like=address.like or None,
        text_weight=address.weight,
        without=address.without,
    )
    least = address.min_score
    found = await service.collection.search(
        query, limit=PAGE, offset=(address.page - 1) * PAGE, where=where, min_score=least
    )
    shown.found = found
    shown.total = found.total if least is not None else await service.collection.count(where) if where else shown.count
    if least is not None and not found.total:
        best = await service.collection.search(query, limit=1, where=where)
        shown.best = best.hits[0].score if best.hits else None
    for text in found.truncated:
        start = text if len(text) <= 20 else f"{text[:20]}…"
        shown.messages.append(Message(words.cut.format(text=start, tokens=service.card.context_length)))
    weights = weights_of(address, words, picture_name=upload.name if upload else "")
    await _show(service, address, shown, [(hit.picture, hit) for hit in found.hits], weights=weights)


async def _browse(service: Service, address: Address, shown: _Shown, where: str) -> None:
    """Show the pictures that filters select, without a search."""
    if address.page > _LAST_PAGE:
        shown.messages.append(_too_far(address))
        return
    shown.total = await service.collection.count(where)
    found = await service.collection.browse(where, limit=PAGE, offset=(address.page - 1) * PAGE)
    await _show(service, address, shown, [(picture, None) for picture in found], weights=())


def _too_far(address: Address) -> Message:
    return Message(WORDS[address.language].too_far.format(limit=_LAST_PAGE * PAGE), status=400)


async def _show(
    service: Service,
    address: Address,
    shown: _Shown,
    pictures: Sequence[tuple[Picture, Hit | None]],
    *,
    weights: Sequence[tuple[str, float]],
) -> None:
    """Make the tiles, and find the picture that is open."""
    first = (address.page - 1) * PAGE + 1 if shown.total is not None else 0
    by_id = {picture.id: picture for picture, _ in pictures}
    shown.results = len(by_id)
    ids = list(by_id)
    opened = {"first": ids[:1], "last": ids[-1:]}.get(address.open, [address.open])
    shown.opened = opened[0] if opened else ""
    base = replace(address, open="", labels="")
    shown.tiles = [
        tile_of(picture, base, service.roots, hit=hit, weights=weights, position=first + number if first else 0)
        for number, (picture, hit) in enumerate(pictures)
    ]
    if not shown.opened:
        return
    picture = by_id.get(shown.opened) or await service.collection.get(shown.opened)
    if picture is None:
        shown.messages.append(Message(WORDS[address.language].gone, status=410))
        shown.opened = ""
        return
    if picture.id not in by_id:
        shown.tiles.append(tile_of(picture, base, service.roots, hit=None, weights=(), position=0))
    if address.labels:
        await _classify(service, address, shown, picture)


async def _classify(service: Service, address: Address, shown: _Shown, picture: Picture) -> None:
    """Compare the picture that is open with the visitor's labels."""
    labels = phrases([address.labels], _MOST_LABELS)
    if len(labels) < 2:
        shown.messages.append(Message(WORDS[address.language].two_labels, status=400))
        return
    image = file_of(picture, service.roots) or picture.thumbnail
    classified = await service.client.classify([image], labels, templates=address.language)
    [chances] = classified.scores.probabilities
    shown.answers = sorted(zip(labels, chances.tolist(), strict=True), key=lambda pair: -pair[1])[:5]


async def _chips(service: Service, address: Address) -> list[Chip]:
    """Return the parts of the query that are not in the text field."""
    words = WORDS[address.language]
    chips = []
    if address.like:
        picture = await service.collection.get(address.like)
        text = f"{words.like_picture} {Path(picture.name).name}" if picture else words.like_picture
        chips.append(Chip(text, address.href(like=""), picture.thumbnail_url if picture else "", "picture"))
    if address.picture:
        upload = service.uploads.get(address.picture)
        text = upload.name if upload and upload.name else words.your_picture
        chips.append(Chip(text, address.href(picture=""), upload.preview if upload else "", "picture"))
    for phrase in address.without:
        rest = tuple(other for other in address.without if other != phrase)
        chips.append(Chip(f"{words.without} {phrase}", address.href(without=rest)))
    for pair in address.filters:
        others = tuple(other for other in address.filters if other != pair)
        chips.append(Chip(f"{pair[0]}: {pair[1]}", address.href(filters=others), kind="filter"))
    if address.min_score is not None:
        chips.append(Chip(f"{words.score} ≥ {address.min_score:g}", address.href(min_score=None), kind="filter"))
    return chips


def _rendered(service: Service | None, address: Address, shown: _Shown) -> str:
    """Return the page as HTML."""
    words = WORDS[address.language]
    pages = min(-(-(shown.total or 0) // PAGE), _LAST_PAGE)
    counted = f"{shown.total or 0:,}"
    if address.min_score is not None and (shown.total or 0) >= _MOST_COUNTED:
        counted = words.more_than.format(total=_MOST_COUNTED)
    return _templates.get_template("page.html").render(
        words=words,
        address=address,
        shown=shown,
        counted=counted,
        number=lambda value: f"{value:,.15g}",
        pages=pages,
        numbers=page_numbers(address.page, pages),
        first=(address.page - 1) * PAGE + 1,
        retry=any(message.retry for message in shown.messages),
        other_language=address.href(language="en" if address.language == "zh" else "zh"),
        upload_mib=service.upload_mib if service else 0,
        card=_card(service.card) if service else {},
    )


def _card(card: ModelCard) -> Mapping[str, Any]:
    """Return the footer's line about the model. Of a checkpoint's path on the server, only the last part is shown."""
    name = card.checkpoint
    is_path = name.startswith(("/", ".", "~")) or "\\" in name or ":" in name[:3]
    return {
        "checkpoint": name.replace("\\", "/").rstrip("/").rpartition("/")[2] if is_path else name,
        "dimension": card.embedding_dimension,
        "precision": card.precision,
        "fingerprint": card.fingerprint[:8],
    }

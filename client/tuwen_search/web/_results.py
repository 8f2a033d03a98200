"""The search of one page: from the visitor's request to the values that the template shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from tuwen_search.query import Hit, Query, Results
from tuwen_search.records import Picture
from tuwen_search.web._address import Address, filter_text, phrases
from tuwen_search.web._files import file_of
from tuwen_search.web._filters import Facet
from tuwen_search.web._least import least_score
from tuwen_search.web._messages import Message, about_picture
from tuwen_search.web._service import Service
from tuwen_search.web._suggestions import Subjects
from tuwen_search.web._translations import WORDS
from tuwen_search.web._uploads import Upload
from tuwen_search.web._view import Chip, Tile, tile_of, weights_of
from tuwen_search.web._words import Language

__all__ = ["LAST_PAGE", "MOST_COUNTED", "PAGE", "Shown", "fill"]

PAGE = 24
"""The number of pictures on one page."""
LAST_PAGE = 16_384 // PAGE
"""The number of the last page, because the store returns only the best 16,384 pictures."""
MOST_COUNTED = 1_000
"""The number up to which a search with a minimum score counts pictures."""
_MOST_LABELS = 30
_SHOWN_LABELS = 5


@dataclass
class Shown:
    """All values that the template shows."""

    messages: list[Message] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    opened: str = ""
    answers: list[tuple[str, float]] = field(default_factory=list)
    other_answers: list[float] = field(default_factory=list)
    chips: list[Chip] = field(default_factory=list)
    spoken: Language = "zh"
    subjects: Subjects = field(default_factory=Subjects)
    facets: Sequence[Facet] = ()
    estimated: bool = False
    count: int | None = None
    total: int | None = None
    results: int = 0
    least: float | None = None
    hidden: int | None = None
    best: float | None = None
    found: Results | None = None


async def fill(service: Service, address: Address, shown: Shown) -> None:
    """Run the visitor's search, and write all values that the page shows into `shown`."""
    words = WORDS[address.language]
    shown.spoken = service.suggestions.known(address.language)
    shown.chips = await _chips(service, address)
    shown.count = await service.collection.count()
    filters = await service.suggestions.filters(shown.count)
    shown.facets, shown.estimated = filters.facets(address.filters), filters.estimated
    where, known = filters.where(address.filters)
    if not known:
        shown.messages.append(Message(words.filter_lost, action=words.clear, href=address.href(filters=())))
    if not address.asks and where:
        await _browse(service, address, shown, where)
        return
    if not address.asks:
        sample: list[tuple[Picture, Hit | None]] = [(picture, None) for picture in await service.suggestions.pictures()]
        await _show(service, address, shown, sample, weights=())
        shown.subjects = await service.suggestions.subjects(address.language)
        shown.spoken = await service.suggestions.spoken(address.language)
        return
    upload = service.uploads.get(address.picture) if address.picture else None
    refusal = await _refusal(service, address, upload)
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
    shown.least = least = least_score(service, address)
    found = await service.collection.search(
        query, limit=PAGE, offset=(address.page - 1) * PAGE, where=where, min_score=least
    )
    shown.found = found
    fitting = await service.collection.count(where) if where else shown.count
    shown.total = fitting if found.total is None else found.total
    if found.total is not None and found.total < MOST_COUNTED:
        shown.hidden = fitting - found.total
    if found.total == 0:
        best = await service.collection.search(query, limit=1, where=where)
        shown.best = best.hits[0].score if best.hits else None
    if not shown.total:
        shown.subjects = await service.suggestions.subjects(address.language)
    for text in found.truncated:
        start = text if len(text) <= 20 else f"{text[:20]}…"
        shown.messages.append(Message(words.cut.format(text=start, tokens=service.card.context_length)))
    weights = weights_of(address, words, picture_name=upload.name if upload else "")
    shown.spoken = await service.suggestions.spoken(address.language)
    pictures = [(hit.picture, hit) for hit in found.hits]
    await _show(service, address, shown, pictures, weights=weights, badges=_badges(address, upload))


async def _refusal(service: Service, address: Address, upload: Upload | None) -> Message | None:
    """Return the message about a query that cannot be searched for; None if the query is valid."""
    words = WORDS[address.language]
    if address.text in address.without:
        rest = tuple(phrase for phrase in address.without if phrase != address.text)
        text = words.both.format(text=address.text)
        return Message(text, False, 400, words.remove_without, address.href(without=rest))
    if address.picture and upload is None:
        return about_picture(words.forgotten, words, address, status=410)
    if address.like and await service.collection.get(address.like) is None:
        action = words.words_only if address.text and not address.picture else words.remove_picture
        return Message(words.like_gone, False, 410, action, address.href(like=""))
    if address.page > LAST_PAGE:
        return _too_far(address)
    return None


async def _browse(service: Service, address: Address, shown: Shown, where: str) -> None:
    """Show the pictures that filters select, without a search."""
    if address.page > LAST_PAGE:
        shown.messages.append(_too_far(address))
        return
    shown.total = await service.collection.count(where)
    found = await service.collection.browse(where, limit=PAGE, offset=(address.page - 1) * PAGE)
    await _show(service, address, shown, [(picture, None) for picture in found], weights=())


def _too_far(address: Address) -> Message:
    words = WORDS[address.language]
    text = words.too_far.format(limit=LAST_PAGE * PAGE)
    return Message(text, False, 400, words.first_page, address.href(page=1))


async def _show(
    service: Service,
    address: Address,
    shown: Shown,
    pictures: Sequence[tuple[Picture, Hit | None]],
    *,
    weights: Sequence[tuple[str, float]],
    badges: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Make the tiles of the pictures, and find the picture whose dialog is open."""
    first = (address.page - 1) * PAGE + 1 if shown.total is not None else 0
    by_id = {picture.id: picture for picture, _ in pictures}
    shown.results = len(by_id)
    ids = list(by_id)
    opened = {"first": ids[:1], "last": ids[-1:]}.get(address.open, [address.open])
    shown.opened = opened[0] if opened else ""
    base = replace(address, open="", labels="")
    shown.tiles = [
        tile_of(
            picture,
            base,
            service.roots,
            hit=hit,
            weights=weights,
            position=first + number if first else 0,
            badge=badges.get(picture.id) or badges.get(picture.sha256, ""),
        )
        for number, (picture, hit) in enumerate(pictures)
    ]
    if not shown.opened:
        return
    picture = by_id.get(shown.opened) or await service.collection.get(shown.opened)
    if picture is None:
        words = WORDS[address.language]
        shown.messages.append(Message(words.gone, False, 410, words.back, address.href(open="")))
        shown.opened = ""
        return
    if picture.id not in by_id:
        shown.tiles.append(tile_of(picture, base, service.roots, hit=None, weights=(), position=0))
    if address.labels:
        await _classify(service, address, shown, picture)


def _badges(address: Address, upload: Upload | None) -> Mapping[str, str]:
    """Return the badge of each picture that the query contains, by the picture's ID or its checksum."""
    words, badges = WORDS[address.language], {}
    if upload is not None:
        badges[hashlib.sha256(upload.data).hexdigest()] = words.your_picture
    if address.like:
        badges[address.like] = words.query_picture
    return badges


async def _classify(service: Service, address: Address, shown: Shown, picture: Picture) -> None:
    """Compare the picture whose dialog is open with the visitor's labels."""
    labels = phrases([address.labels], _MOST_LABELS)
    if len(labels) < 2:
        shown.messages.append(Message(WORDS[address.language].two_labels, status=400))
        return
    image = file_of(picture, service.roots) or picture.thumbnail
    classified = await service.client.classify([image], labels, templates=shown.spoken)
    [chances] = classified.scores.probabilities
    answers = sorted(zip(labels, chances.tolist(), strict=True), key=lambda pair: -pair[1])
    shown.answers = answers[:_SHOWN_LABELS]
    shown.other_answers = [chance for _, chance in answers[_SHOWN_LABELS:]]


async def _chips(service: Service, address: Address) -> list[Chip]:
    """Return a chip, a label with a link, for each part of the query that is not in the text field."""
    words = WORDS[address.language]
    chips = []
    if address.like:
        picture = await service.collection.get(address.like)
        text = (
            f"{words.like_picture} {Path(picture.name).name}"
            if picture
            else words.missing.format(name=words.query_picture)
        )
        thumbnail = picture.thumbnail_url if picture else ""
        chips.append(Chip(text, address.href(like=""), thumbnail, "picture" if picture else "missing"))
    if address.picture:
        upload = service.uploads.get(address.picture)
        text = (upload.name or words.your_picture) if upload else words.missing.format(name=words.your_picture)
        preview = upload.preview if upload else ""
        chips.append(Chip(text, address.href(picture=""), preview, "picture" if upload else "missing"))
    for phrase in address.without:
        rest = tuple(other for other in address.without if other != phrase)
        chips.append(Chip(f"{words.without} {phrase}", address.href(without=rest)))
    for pair in address.filters:
        others = tuple(other for other in address.filters if other != pair)
        chips.append(Chip(filter_text(*pair), address.href(filters=others), kind="filter"))
    if address.min_score is not None:
        text = f"{words.score} ≥ {address.min_score:g}" if address.min_score > -1 else words.weak_too
        chips.append(Chip(text, address.href(min_score=None), kind="filter"))
    return chips

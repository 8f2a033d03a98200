"""The tiles, chips and page numbers of the page, as texts and addresses for the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuwen_search.query import Hit
from tuwen_search.records import Picture
from tuwen_search.web._address import Address
from tuwen_search.web._files import file_of
from tuwen_search.web._words import Words

__all__ = ["Chip", "Part", "Tile", "page_numbers", "shown_name", "tile_of", "weights_of"]

_MOST_METADATA = 30
_LONGEST_VALUE = 300


@dataclass(frozen=True)
class Chip:
    """One part of the query, with a link that removes the part.

    Attributes:
        text: the text of the chip.
        remove: the address of the page without this part.
        picture: a small picture as a ``data:`` URL; empty without a picture.
        kind: the kind of the part: ``picture``, ``missing`` (a picture that is lost), ``without`` or ``filter``.
    """

    text: str
    remove: str
    picture: str = ""
    kind: str = "without"


@dataclass(frozen=True)
class Part:
    """One part of the query as the page shows it: its name, its weight, and its cosine with the picture."""

    name: str
    weight: str
    cosine: float


@dataclass(frozen=True)
class Tile:
    """One picture as the page shows it: a tile, which opens a dialog.

    Attributes:
        id: the picture's ID.
        name: the last part of the picture's name.
        full_name: the picture's name in its source, without the folders of the server.
        source: the last part of the source's path.
        thumbnail: the thumbnail as a ``data:`` URL; empty without a thumbnail.
        size: width, height and file size in words.
        has_original: whether the picture can be shown in full size.
        score: the score; None if the picture was not searched for.
        parts: the weight and the cosine of each part of the query.
        metadata: the names and values of the picture's metadata.
        position: the picture's number among the results, from 1; 0 if the picture was not searched for.
        href: the address that shows the picture in full size.
        like: the address of a search for similar pictures.
        badge: the text that marks the picture of the query itself; empty for all other pictures.
    """

    id: str
    name: str
    full_name: str
    source: str
    thumbnail: str
    size: str
    has_original: bool
    score: float | None
    parts: tuple[Part, ...]
    metadata: Mapping[str, str]
    position: int
    href: str
    like: str
    badge: str


def tile_of(
    picture: Picture,
    address: Address,
    roots: Sequence[Path],
    *,
    hit: Hit | None,
    weights: Sequence[tuple[str, float]],
    position: int,
    badge: str = "",
) -> Tile:
    """Return the tile of one picture.

    Args:
        picture: the picture.
        address: the address of the page.
        roots: the folders whose pictures are shown in full size.
        hit: the hit of the search; None if the picture was not searched for.
        weights: the name and the weight of each part of the query, in the order of `Hit.parts`.
        position: the picture's number among the results, from 1; 0 if the picture was not searched for.
        badge: the text that marks the picture of the query itself; empty for all other pictures.
    """
    full_name = shown_name(picture, roots)
    pixels = f"{picture.width:,} × {picture.height:,}" if picture.width else ""
    file_size = f"{picture.file_size / 1024:,.0f} KiB" if picture.file_size else ""
    cosines = hit.parts.values() if hit else ()
    return Tile(
        id=picture.id,
        name=full_name.rpartition("/")[2],
        full_name=full_name,
        source=picture.source.rstrip("/").rpartition("/")[2],
        thumbnail=picture.thumbnail_url,
        size=", ".join(filter(None, [pixels, file_size])),
        has_original=file_of(picture, roots) is not None,
        score=hit.score if hit else None,
        parts=tuple(
            Part(name, f"{weight:+.2f}", cosine)
            for (name, weight), cosine in zip(weights, cosines, strict=hit is not None)
        )
        if hit
        else (),
        metadata={
            name: str(value)[:_LONGEST_VALUE]
            for name, value in list(picture.metadata.items())[:_MOST_METADATA]
            if value is not None
        },
        position=position,
        href=address.href(open=picture.id),
        like=Address(language=address.language, like=picture.id).href(),
        badge=badge,
    )


def shown_name(picture: Picture, roots: Sequence[Path]) -> str:
    """Return the name of a picture without the server's folders, which the name of a picture from a list contains."""
    path = Path(picture.name)
    if not path.is_absolute():
        return picture.name
    root = next((root for root in roots if path.is_relative_to(root)), path.parent)
    return path.relative_to(root).as_posix()


def weights_of(address: Address, words: Words, *, picture_name: str = "") -> list[tuple[str, float]]:
    """Return the name and the weight of each part of a query, in the order of `Hit.parts`."""
    pictures = [words.like_picture] if address.like else []
    pictures += [picture_name or words.your_picture] if address.picture else []
    text = address.weight if pictures else 1.0
    parts = [(address.text, text)] if address.text else []
    rest = 1 - text if parts else 1.0
    parts += [(name, rest / len(pictures)) for name in pictures]
    return parts + [(f"{words.without} {phrase}", -0.5 / len(address.without)) for phrase in address.without]


def page_numbers(page: int, pages: int) -> list[int]:
    """Return the numbers of the pages to link to; 0 stands for a gap between two numbers."""
    near = {1, pages, *range(page - 2, page + 3)} & set(range(1, pages + 1))
    numbers: list[int] = []
    for number in sorted(near):
        if numbers and number - numbers[-1] == 2:
            numbers.append(number - 1)
        elif numbers and number - numbers[-1] > 2:
            numbers.append(0)
        numbers.append(number)
    return numbers

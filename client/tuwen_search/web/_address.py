"""The address of the page. Its query parameters contain the visitor's whole request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from tuwen_search.web._words import Language

__all__ = ["LONGEST_TEXT", "Address", "filter_text", "phrases"]

LONGEST_TEXT = 2_000
"""The maximum length of a text in characters. Models read far fewer characters."""
_MOST_PHRASES = 10
_MOST_FILTERS = 50
_ID = re.compile("[0-9a-f]{32}")
_PLACES = ("first", "last")
_BOUNDS = {"min": "≥", "max": "≤"}
_NAMES_OF_BOUNDS = {sign: f"{prefix}." for prefix, sign in _BOUNDS.items()}
_LARGEST = 1e15


@dataclass(frozen=True)
class Address:
    """The state of the page, which its address contains.

    Attributes:
        language: the language of the page.
        text: the description of what the pictures should show; empty without a text.
        without: the descriptions of what no picture should show.
        picture: the key of an uploaded picture to search with; empty without such a picture.
        like: the ID of a picture of the collection to search with; empty without such a picture.
        weight: the weight of the text beside pictures, from 0 to 1.
        min_score: the minimum score of a shown picture. None: the operator's minimum. -1: no minimum.
        filters: pairs of a metadata field and its required value, or a bound such as ``≥10``.
        page: the number of the page, from 1.
        open: the ID of the picture whose dialog is open; ``first`` or ``last`` means the first or the last picture of
            the page; empty: no dialog is open.
        labels: the labels to compare with the open picture, separated by commas.
    """

    language: Language = "zh"
    text: str = ""
    without: tuple[str, ...] = ()
    picture: str = ""
    like: str = ""
    weight: float = 0.5
    min_score: float | None = None
    filters: tuple[tuple[str, str], ...] = ()
    page: int = 1
    open: str = ""
    labels: str = ""

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]], language: Language = "zh") -> Address:
        """Read an address from query parameters or the fields of a form. An invalid value counts as absent.

        Args:
            language: the language of an address that names no language.
        """
        values: dict[str, list[str]] = {}
        filters: dict[tuple[str, str], None] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
            prefix, _, field = name.partition(".")
            bound = _number(value, -_LARGEST, _LARGEST)
            if field and value and prefix == "f":
                filters[field, value] = None
            elif field and prefix in _BOUNDS and bound is not None:
                filters[field, f"{_BOUNDS[prefix]}{bound:.15g}"] = None

        def last(name: str) -> str:
            return values.get(name, [""])[-1]

        weight = _number(last("weight"), 0.0, 1.0)
        spoken: dict[str, Language] = {"zh": "zh", "en": "en"}
        return _settled(
            cls(
                language=spoken.get(last("language"), language),
                text=last("q").strip()[:LONGEST_TEXT],
                without=phrases(values.get("without", [])),
                picture=_id(last("picture")),
                like=_id(last("like")),
                weight=0.5 if weight is None else weight,
                min_score=-1.0 if last("all") else _number(last("score"), -1.0, 1.0),
                filters=tuple(filters)[:_MOST_FILTERS],
                page=int(last("page")) if re.fullmatch("[1-9][0-9]{0,3}", last("page")) else 1,
                open=last("open") if last("open") in _PLACES else _id(last("open")),
                labels=last("labels").strip()[:LONGEST_TEXT],
            )
        )

    @property
    def asks(self) -> bool:
        """Whether the address has a text or a picture to search for."""
        return bool(self.text or self.picture or self.like)

    def asking(self, text: str) -> Address:
        """Return the address of a search for another text, with this language and with defaults otherwise."""
        return Address(language=self.language, text=text)

    @property
    def text_alone(self) -> bool:
        """Whether the address asks for a text, without pictures and without phrases to leave out."""
        return bool(self.text) and not (self.picture or self.like or self.without)

    @property
    def narrowed(self) -> bool:
        """Whether the visitor chose filters or a minimum score, which leave pictures out."""
        return bool(self.filters) or self.limited

    @property
    def limited(self) -> bool:
        """Whether the visitor chose a minimum score, which leaves pictures out."""
        return self.min_score is not None and self.min_score > -1

    def defaulted(self, least: float | None) -> Address:
        """Return the address without the minimum score, if this score equals the default.

        Args:
            least: the operator's minimum score for this search; None: all pictures are shown.
        """
        chosen = self.min_score
        if chosen is None or (chosen > -1 if least is None else f"{chosen:.2f}" != f"{least:.2f}"):
            return self
        return replace(self, min_score=None)

    def href(self, **changes: Any) -> str:
        """Return the address of the page with some attributes changed. A changed search begins at its first page."""
        if not changes.keys() <= {"page", "open", "labels", "language"}:
            changes = {"page": 1, "open": "", "labels": "", **changes}
        elif "page" in changes:
            changes = {"open": "", "labels": "", **changes}
        elif "open" in changes:
            changes = {"labels": "", **changes}
        return f"/?{urlencode(list(_settled(replace(self, **changes)).pairs()))}"

    def pairs(self, without: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
        """Yield the query parameters, except those with the given names. Parameters with default values are left out.

        Args:
            without: the names of the parameters to leave out; ``f.`` stands for all filters.
        """
        found = [
            ("q", self.text),
            *(("without", phrase) for phrase in self.without),
            ("picture", self.picture),
            ("like", self.like),
            ("weight", "" if self.weight == 0.5 else f"{self.weight:g}"),
            ("score", "" if self.min_score is None else f"{self.min_score:g}"),
            *(_filter_pair(field, value) for field, value in self.filters),
            ("page", str(self.page) if self.page > 1 else ""),
            ("open", self.open),
            ("labels", self.labels),
            ("language", self.language),
        ]
        left_out = set(without)
        for name, value in found:
            of_filter = name.startswith(("f.", "min.", "max."))
            if value and name not in left_out and not (of_filter and "f." in left_out):
                yield name, value

    def bound(self, field: str, sign: str) -> str:
        """Return a field's minimum for the sign ``≥``, or its maximum for ``≤``; empty if no filter sets it."""
        return next((value[1:] for name, value in self.filters if name == field and value[0] == sign), "")


def phrases(given: Iterable[str], most: int = _MOST_PHRASES) -> tuple[str, ...]:
    """Return the phrases in some texts, each phrase once. Commas, semicolons and line breaks separate phrases."""
    parts = (part.strip() for text in given for part in re.split(r"[,，、;；\n]", text[:LONGEST_TEXT]))
    return tuple(dict.fromkeys(filter(None, parts)))[:most]


def filter_text(field: str, value: str) -> str:
    """Return a filter as the page shows it: ``price ≥ 50`` for a bound, ``category: shoe`` for a value."""
    is_bound = _filter_pair(field, value)[0] != f"f.{field}"
    return f"{field} {value[0]} {value[1:]}" if is_bound else f"{field}: {value}"


def _settled(address: Address) -> Address:
    """Return an address without settings that have no effect.

    A weight needs a text and a picture. Labels need an open picture.
    """
    mixed = address.text and (address.picture or address.like)
    return replace(address, weight=address.weight if mixed else 0.5, labels=address.labels if address.open else "")


def _filter_pair(field: str, value: str) -> tuple[str, str]:
    prefix = _NAMES_OF_BOUNDS.get(value[0])
    is_bound = prefix is not None and _number(value[1:], -_LARGEST, _LARGEST) is not None
    return (f"{prefix}{field}", value[1:]) if is_bound else (f"f.{field}", value)


def _id(text: str) -> str:
    return text if _ID.fullmatch(text) else ""


def _number(text: str, low: float, high: float) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if low <= value <= high else None

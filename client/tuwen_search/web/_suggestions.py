"""What a first visitor is offered: subjects, pictures and filters, all out of the collection itself."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen import AsyncClient
from tuwen_search.collection import AsyncCollection
from tuwen_search.filters import literal
from tuwen_search.records import Picture
from tuwen_search.web._subjects import SUBJECTS
from tuwen_search.web._words import Language

__all__ = ["Facets", "Suggestions", "facets_of", "frequent", "where_of"]

_SAMPLE = 400
_PICTURES = 18
_SUBJECTS = 6
_MOST_VALUES = 20
_MOST_FIELDS = 6
_LONGEST_VALUE = 60
_KEPT_SECONDS = 600.0
_BOUND = re.compile(r"([≥≤])([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)")
_OPERATORS = {"≥": ">=", "≤": "<="}

Value: TypeAlias = "str | int | float | bool"
Facets: TypeAlias = "Mapping[str, Mapping[str, Value]]"
"""The fields of a collection's metadata that filters offer: for each field its values, by the text that is shown.

A field without values holds numbers, of which a filter takes a range.
"""


@dataclass
class Suggestions:
    """What is offered, made anew after ten minutes.

    Attributes:
        client: the client of the embedding server.
        collection: the collection whose pictures are offered.
        examples: texts that are offered instead of subjects.
    """

    client: AsyncClient
    collection: AsyncCollection
    examples: tuple[str, ...] = ()
    _sample: list[tuple[Picture, NDArray[np.float32]]] = field(default_factory=list)
    _subjects: dict[Language, tuple[str, ...]] = field(default_factory=dict)
    _facets: Facets = field(default_factory=dict)
    _made: float | None = None
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def pictures(self) -> list[Picture]:
        """Return some pictures of the collection."""
        await self._refresh()
        return [picture for picture, _ in self._sample if picture.thumbnail][:_PICTURES]

    async def facets(self) -> Facets:
        """Return the fields and values of metadata that filters offer."""
        await self._refresh()
        return self._facets

    async def subjects(self, language: Language) -> tuple[str, ...]:
        """Return texts that find something: the operator's examples, or subjects that many pictures show."""
        if self.examples:
            return self.examples
        await self._refresh()
        async with self._making:
            if self._sample and language not in self._subjects:
                vectors = await self.client.embed_texts(SUBJECTS[language])
                self._subjects[language] = frequent(SUBJECTS[language], vectors, [vector for _, vector in self._sample])
        return self._subjects.get(language, ())

    async def _refresh(self) -> None:
        async with self._making:
            if self._made is None or time.monotonic() - self._made >= _KEPT_SECONDS:
                self._sample = await self.collection.sample(_SAMPLE)
                self._subjects.clear()
                self._facets = facets_of([picture for picture, _ in self._sample])
                self._made = time.monotonic()


def frequent(
    subjects: Sequence[str], vectors: NDArray[np.float32], pictures: Sequence[NDArray[np.float32]]
) -> tuple[str, ...]:
    """Return the subjects that most pictures fit better than any other subject, the most frequent first.

    Args:
        vectors: float32 (n, D), the vectors of the subjects.
        pictures: the vectors of some pictures, float32 (D,) each.
    """
    cosines = np.asarray(pictures) @ vectors.T
    cosines -= cosines.mean(axis=0)  # some subjects have a high cosine with every picture
    counts = Counter(cosines.argmax(axis=1).tolist())
    return tuple(subjects[index] for index, _ in counts.most_common(_SUBJECTS))


def facets_of(pictures: Sequence[Picture]) -> Facets:
    """Return the fields of metadata with few different values, which several pictures share, and those of numbers."""
    values: dict[str, Counter[Value]] = {}
    for picture in pictures:
        for name, value in picture.metadata.items():
            if isinstance(value, (str, int, float, bool)) and str(value).strip():
                values.setdefault(name, Counter())[value] += 1
    found: dict[str, dict[str, Value]] = {}
    for name, counted in values.items():
        few = 2 <= len(counted) <= min(_MOST_VALUES, sum(counted.values()) // 2)
        if len(found) == _MOST_FIELDS:
            break
        if few and max(len(str(value)) for value in counted) <= _LONGEST_VALUE:
            found[name] = {str(value): value for value, _ in counted.most_common()}
        elif len(counted) > 1 and not any(isinstance(value, (str, bool)) for value in counted):
            found[name] = {}
    return found


def where_of(filters: Sequence[tuple[str, str]], facets: Facets) -> tuple[str, bool]:
    """Return the expression of some filters, and whether all of them are offered. One that is not offered is left out.

    Values of one field are alternatives; all fields and all bounds must fit.
    """
    chosen: dict[str, list[str]] = {}
    bounds: list[str] = []
    known = True
    for name, text in filters:
        if text in facets.get(name, {}):
            value = facets[name][text]
            written = literal(value) if isinstance(value, str) else str(value).lower()
            chosen.setdefault(name, []).append(f"metadata[{literal(name)}] == {written}")
        elif facets.get(name) == {} and (bound := _BOUND.fullmatch(text)):
            bounds.append(f"(metadata[{literal(name)}] {_OPERATORS[bound[1]]} {float(bound[2])})")
        else:
            known = False
    return " and ".join([*(f"({' or '.join(parts)})" for parts in chosen.values()), *bounds]), known

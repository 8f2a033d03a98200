"""Suggestions for a visitor: subjects, pictures and filters of the collection."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tuwen import AsyncClient
from tuwen_search.async_collection import AsyncCollection
from tuwen_search.records import Picture
from tuwen_search.web._filters import FilterTable
from tuwen_search.web._subjects import SUBJECTS
from tuwen_search.web._words import Language

__all__ = ["Suggestions", "frequent"]

_SAMPLE = 400
_PICTURES = 18
_SUBJECTS = 6
_COUNTED = 8_000  # Milvus returns at most 16,384 rows of a query, and a sample can be larger than asked for
_KEPT_SECONDS = 600.0
_KEPT_SECONDS_OF_CHANGES = 10.0


@dataclass
class Suggestions:
    """Subjects, pictures and filters that the page suggests.

    They are renewed after ten minutes, and ten seconds after a change of the number of pictures.

    Attributes:
        client: the client of the embedding server.
        collection: the collection whose pictures are suggested.
        examples: texts that are suggested instead of subjects.
    """

    client: AsyncClient
    collection: AsyncCollection
    examples: tuple[str, ...] = ()
    _sample: list[tuple[Picture, NDArray[np.float32]]] = field(default_factory=list)
    _subjects: dict[Language, tuple[str, ...]] = field(default_factory=dict)
    _filters: FilterTable = field(default_factory=lambda: FilterTable([], 0))
    _total: int = 0
    _made: float | None = None
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def pictures(self) -> list[Picture]:
        """Return some pictures of the collection."""
        await self._refresh()
        return [picture for picture, _ in self._sample if picture.thumbnail][:_PICTURES]

    async def filters(self, total: int) -> FilterTable:
        """Return the fields and values of metadata that filters offer.

        Args:
            total: the number of pictures in the collection now.
        """
        await self._refresh(total)
        return self._filters

    async def subjects(self, language: Language) -> tuple[str, ...]:
        """Return the operator's examples, or else subjects that many pictures show."""
        if self.examples:
            return self.examples
        await self._refresh()
        async with self._making:
            if self._sample and language not in self._subjects:
                vectors = await self.client.embed_texts(SUBJECTS[language])
                self._subjects[language] = frequent(SUBJECTS[language], vectors, [vector for _, vector in self._sample])
        return self._subjects.get(language, ())

    async def _refresh(self, total: int | None = None) -> None:
        if self._made is not None and self._making.locked():
            return  # one visitor waits for the new ones, and the others get the earlier ones
        async with self._making:
            changed = total is not None and total != self._total
            kept = _KEPT_SECONDS_OF_CHANGES if changed else _KEPT_SECONDS
            if self._made is None or time.monotonic() - self._made >= kept:
                self._sample = await self.collection.sample(_SAMPLE)
                self._subjects.clear()
                self._total = await self.collection.count()
                self._filters = FilterTable(await self.collection.sample_metadata(_COUNTED), self._total)
                self._made = time.monotonic()


def frequent(
    subjects: Sequence[str], vectors: NDArray[np.float32], pictures: Sequence[NDArray[np.float32]]
) -> tuple[str, ...]:
    """Return the most frequent subjects, most frequent first. Each picture counts for the subject that fits it best.

    Args:
        vectors: float32 (n, D), the vectors of the subjects.
        pictures: the vectors of some pictures, float32 (D,) each.
    """
    cosines = np.asarray(pictures) @ vectors.T
    cosines -= cosines.mean(axis=0)  # some subjects have a high cosine with every picture
    counts = Counter(cosines.argmax(axis=1).tolist())
    return tuple(subjects[index] for index, _ in counts.most_common(_SUBJECTS))

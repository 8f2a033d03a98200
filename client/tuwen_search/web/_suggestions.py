"""Suggestions for a visitor: subjects, pictures and filters of the collection."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tuwen import AsyncClient
from tuwen_search.async_collection import AsyncCollection
from tuwen_search.records import Picture
from tuwen_search.web._filters import FilterTable
from tuwen_search.web._subjects import SUBJECTS
from tuwen_search.web._words import Language

__all__ = ["Subjects", "Suggestions", "frequent", "suggested", "understood", "written_in"]

_CHINESE = re.compile("[\u3400-\u9fff]")
_SAMPLE = 400
_PICTURES = 18
_SUBJECTS = 6
_COUNTED = 8_000  # Milvus returns at most 16,384 rows, and a sample may be larger than requested
_KEPT_SECONDS = 600.0
_KEPT_SECONDS_OF_CHANGES = 10.0
_FEWEST_JUDGED = 8  # minimum number of pictures from which a language is judged
_RELATED = 0.25  # minimum mean correlation of the cosines in both languages, if the model understands both languages
_CLEARER = 1.15  # minimum factor between the languages' distances of the best picture's cosine from the mean


@dataclass(frozen=True)
class Subjects:
    """Searches that the page suggests.

    Attributes:
        texts: pairs of a text to search for and the same subject in the language of the page.
        other_language: whether the texts are not in the language of the page, because the model understands the other
            language better.
    """

    texts: tuple[tuple[str, str], ...] = ()
    other_language: bool = False


@dataclass
class Suggestions:
    """Subjects, pictures and filters that the page suggests.

    The suggestions are renewed after ten minutes, or ten seconds after a change of the number of pictures.

    Attributes:
        client: the client of the embedding server.
        collection: the collection whose pictures are suggested.
        examples: texts that are suggested instead of subjects.
    """

    client: AsyncClient
    collection: AsyncCollection
    examples: tuple[str, ...] = ()
    _sample: list[tuple[Picture, NDArray[np.float32]]] = field(default_factory=list)
    _subjects: dict[Language, Subjects] = field(default_factory=dict)
    _spoken: dict[Language, Language] = field(default_factory=dict)
    _vectors: dict[Language, NDArray[np.float32]] = field(default_factory=dict)
    _filters: FilterTable = field(default_factory=lambda: FilterTable([], 0))
    _total: int = 0
    _made: float | None = None
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def pictures(self) -> list[Picture]:
        """Return some random pictures of the collection."""
        await self._refresh()
        return [picture for picture, _ in self._sample if picture.thumbnail][:_PICTURES]

    async def filters(self, total: int) -> FilterTable:
        """Return the table of filters that the page offers.

        Args:
            total: the number of pictures in the collection now.
        """
        await self._refresh(total)
        return self._filters

    async def subjects(self, language: Language) -> Subjects:
        """Return the operator's examples; without examples, subjects that many pictures show.

        The subjects are in the language of the page. If the model hardly understands this language, they are in the
        other language.
        """
        if self.examples:
            return Subjects(tuple((text, text) for text in self.examples))
        await self._refresh()
        async with self._making:
            if self._sample and language not in self._subjects:
                self._subjects[language] = suggested(language, await self._embedded(), self._pictures())
        return self._subjects.get(language, Subjects())

    async def spoken(self, language: Language) -> Language:
        """Return the language of the page; if the model hardly understands this language, return the other language."""
        await self._refresh()
        if language not in self._spoken:
            async with self._making:
                if self._sample:
                    self._spoken[language] = understood(language, await self._embedded(), self._pictures())
        return self.known(language)

    def known(self, language: Language) -> Language:
        """Return the result of an earlier call of `spoken`; without such a call, return the language of the page."""
        return self._spoken.get(language, language)

    def _pictures(self) -> NDArray[np.float32]:
        return np.asarray([vector for _, vector in self._sample])

    async def _embedded(self) -> Mapping[Language, NDArray[np.float32]]:
        """Return the vectors of `SUBJECTS`. They stay the same as long as the server has the same model."""
        for language in SUBJECTS:
            if language not in self._vectors:
                self._vectors[language] = await self.client.embed_texts(SUBJECTS[language])
        return self._vectors

    async def _refresh(self, total: int | None = None) -> None:
        if self._made is not None and self._making.locked():
            return  # one visitor waits for new suggestions, and all others get the earlier suggestions
        async with self._making:
            changed = total is not None and total != self._total
            kept = _KEPT_SECONDS_OF_CHANGES if changed else _KEPT_SECONDS
            if self._made is None or time.monotonic() - self._made >= kept:
                self._sample = await self.collection.sample(_SAMPLE)
                self._subjects.clear()
                self._spoken.clear()
                self._total = await self.collection.count()
                self._filters = FilterTable(await self.collection.sample_metadata(_COUNTED), self._total)
                self._made = time.monotonic()


def suggested(
    language: Language, vectors: Mapping[Language, NDArray[np.float32]], pictures: NDArray[np.float32]
) -> Subjects:
    """Return the most frequent subjects of some pictures, in the language of the page if the model understands it.

    Otherwise, the subjects are in the other language, each with its translation.

    Args:
        language: the language of the page.
        vectors: the vectors of `SUBJECTS` in each language, float32 (n, D).
        pictures: the vectors of the pictures, float32 (N, D).
    """
    spoken = understood(language, vectors, pictures)
    shown = [(SUBJECTS[spoken][index], SUBJECTS[language][index]) for index in frequent(vectors[spoken], pictures)]
    return Subjects(tuple(shown), spoken != language)


def written_in(text: str, language: Language) -> bool:
    """Return whether a text is in a language of the page. A text with a Chinese character is Chinese."""
    chinese = bool(_CHINESE.search(text))
    return chinese if language == "zh" else bool(text.strip()) and not chinese


def understood(
    language: Language, vectors: Mapping[Language, NDArray[np.float32]], pictures: NDArray[np.float32]
) -> Language:
    """Return the language of the page; if the model understands only the other language, return that language.

    A model that understands both languages finds similar pictures for the same subject in both languages. If the
    results are unrelated, the model understands the language in which the best picture's cosine lies farther above the
    mean.

    Args:
        language: the language of the page.
        vectors: the vectors of the same subjects in each language, float32 (n, D).
        pictures: the vectors of the pictures, float32 (N, D).
    """
    if len(pictures) < _FEWEST_JUDGED:
        return language
    cosines = {name: pictures @ texts.T for name, texts in vectors.items()}
    centred = {name: scores - scores.mean(axis=0) for name, scores in cosines.items()}
    other: Language = "en" if language == "zh" else "zh"
    ours, theirs = centred[language], centred[other]
    norms = np.linalg.norm(ours, axis=0) * np.linalg.norm(theirs, axis=0)
    related = float(((ours * theirs).sum(axis=0) / np.maximum(norms, 1e-9)).mean())
    clearer = float(theirs.max(axis=0).mean() / max(ours.max(axis=0).mean(), 1e-9))
    return other if related < _RELATED and clearer > _CLEARER else language


def frequent(vectors: NDArray[np.float32], pictures: NDArray[np.float32]) -> list[int]:
    """Return the positions of the most frequent subjects, the most frequent first.

    A picture counts for the subject that fits it best.

    Args:
        vectors: the vectors of the subjects, float32 (n, D).
        pictures: the vectors of some pictures, float32 (N, D).
    """
    cosines = pictures @ vectors.T
    cosines -= cosines.mean(axis=0)  # otherwise, a subject with a high cosine to every picture would win
    counts = Counter(cosines.argmax(axis=1).tolist())
    return [index for index, _ in counts.most_common(_SUBJECTS)]

"""The query of a search, its vector, and the results. The functions only compute: they call no server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from tuwen import ImageInput, InvalidItemsError, ItemOutcome
from tuwen_options import Option, check_values, documented
from tuwen_search.errors import QueryError
from tuwen_search.filters import checked_id
from tuwen_search.records import Picture

__all__ = ["Hit", "Part", "Query", "Results", "combined", "embedded_texts", "explained", "parts_of"]


@documented
@dataclass(frozen=True)
class Query:
    """The subject of a search: a text, a new picture, a picture of the collection, or a combination, with exclusions.

    Raises:
        QueryError: the query is empty, a text is both wanted and excluded, an ID is malformed, or a weight is invalid.
    """

    text: Annotated[
        str, Option("Description of what the pictures should show.", positional=True, show_default=False)
    ] = ""
    image: Annotated[
        ImageInput | None, Option("Picture that the results should resemble.", metavar="<path>", parse=Path)
    ] = field(default=None, kw_only=True)
    like: Annotated[
        str | None,
        Option("ID of a picture of the collection that the results should resemble, 32 hexadecimal digits."),
    ] = field(default=None, kw_only=True)
    without: Annotated[Sequence[str], Option("Description of what no picture should show. Repeat for more.")] = field(
        default=(), kw_only=True
    )
    text_weight: Annotated[
        float,
        Option("Weight of the text beside a picture, from 0 (only the picture) to 1 (only the text).", min=0, max=1),
    ] = field(default=0.5, kw_only=True)
    without_weight: Annotated[
        float,
        Option("Weight of all --without texts together. The wanted parts have weight 1. 0: no effect.", min=0),
    ] = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.without, str):
            raise QueryError("without: expected a list of texts, got str; for one text pass [text]")
        if not self.text.strip() and self.image is None and self.like is None:
            raise QueryError("the query is empty: expected a text, a picture, or both")
        check_values(self, QueryError)
        if self.like is not None:
            checked_id(self.like)
        if not all(text.strip() for text in self.without):
            raise QueryError("without: expected texts, got an empty text")
        if self.text.strip() and self.text.strip() in map(str.strip, self.without):
            raise QueryError(f"'{self.text.strip()}' is both wanted and excluded; exclude another text")

    @property
    def text_alone(self) -> bool:
        """Whether the query is a text, without pictures and exclusions."""
        return bool(self.text.strip()) and self.image is None and self.like is None and not self.without

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts to embed: the text of the query, if any, then the texts of `without`."""
        return ((self.text,) if self.text.strip() else ()) + tuple(self.without)


@dataclass(frozen=True, eq=False)
class Part:
    """One wanted or excluded part of a query. Parts are compared by identity, because they contain arrays.

    Attributes:
        name: the part's text, or ``picture``; unique within the query. A text that equals an earlier name gets a
            prefix, such as ``text: picture``.
        weight: the part's share of the query's vector, negative for an excluded part.
        vector: the part's embedding, a unit vector, float32 (D,).
    """

    name: str
    weight: float
    vector: NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Attributes:
        picture: the picture, with its thumbnail.
        score: the cosine of the picture's vector and the query's vector, from -1 to 1. A text and a picture that fit
            well often have 0.2 to 0.5, depending on the model; two similar pictures come close to 1. Do not compare
            scores of different models.
        parts: the cosine of the picture with each part of the query, by the part's name.
    """

    picture: Picture
    score: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Results:
    """One page of results.

    Attributes:
        hits: the pictures that were found, the best first.
        embedding_seconds: the time in seconds to embed the query.
        store_seconds: the time in seconds to find the pictures in the store.
        truncated: the texts of the query that were too long, so that the model read only their beginning.
        total: the number of pictures that reach `min_score`, up to 1,000; None if the search had no `min_score`.
    """

    hits: tuple[Hit, ...]
    embedding_seconds: float
    store_seconds: float
    truncated: tuple[str, ...] = ()
    total: int | None = None


def embedded_texts(outcomes: Sequence[ItemOutcome]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return the vectors of a query's texts, float32 (n, D), and the texts that were truncated.

    Raises:
        InvalidItemsError: the server refused a text.
    """
    if failures := tuple(outcome.error for outcome in outcomes if outcome.error is not None):
        raise InvalidItemsError("text", failures, len(outcomes))
    vectors = [outcome.embedding for outcome in outcomes if outcome.embedding is not None]
    return np.asarray(vectors, np.float32), tuple(str(outcome.key) for outcome in outcomes if outcome.truncated)


def parts_of(query: Query, texts: NDArray[np.float32], pictures: Sequence[NDArray[np.float32]]) -> list[Part]:
    """Return the parts of a query.

    Args:
        texts: the vectors of `Query.texts`, float32 (n, D).
        pictures: the vectors of the query's pictures: first `Query.like`, then `Query.image`, if the query has these.
    """
    vectors, parts = list(texts), []
    taken = {"picture"} if pictures else set()
    if query.text.strip():
        weight = query.text_weight if pictures else 1.0
        parts.append(Part(_unused(query.text, "text", taken), weight, vectors.pop(0)))
    rest = 1 - parts[0].weight if parts else 1.0
    for number, vector in enumerate(pictures):
        name = _unused("picture", "another", taken) if number else "picture"
        parts.append(Part(name, rest / len(pictures), vector))
    share = query.without_weight / max(1, len(query.without))
    for text, vector in zip(query.without, vectors, strict=True):
        parts.append(Part(_unused(text, "without", taken), -share, vector))
    return parts


def _unused(name: str, prefix: str, taken: set[str]) -> str:
    """Return a name that no other part has, and mark it as taken. The prefix is added until the name is new."""
    while name in taken:
        name = f"{prefix}: {name}"
    taken.add(name)
    return name


def combined(parts: Sequence[Part]) -> NDArray[np.float32]:
    """Return the weighted sum of the parts as a unit vector, float32 (D,).

    Raises:
        QueryError: the parts cancel each other out.
    """
    total: NDArray[np.float64] = np.sum([part.weight * part.vector for part in parts], axis=0, dtype=np.float64)
    norm = float(np.linalg.norm(total))
    if norm < 1e-6:
        raise QueryError("the wanted and the excluded parts of the query cancel each other out; change one of them")
    vector: NDArray[np.float32] = (total / norm).astype(np.float32)
    return vector


def explained(parts: Sequence[Part], vector: NDArray[np.float32]) -> dict[str, float]:
    """Return the cosine of a picture's vector with each part, by name. A repeated name gets a number: ``cat (2)``."""
    cosines: dict[str, float] = {}
    for part in parts:
        name, count = part.name, 1
        while name in cosines:
            count += 1
            name = f"{part.name} ({count})"
        cosines[name] = float(part.vector @ vector)
    return cosines

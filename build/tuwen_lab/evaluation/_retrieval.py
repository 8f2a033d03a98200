"""Recall at k, as Chinese-CLIP's scripts in ``cn_clip/eval`` compute it (evaluation.py, make_topk_predictions.py)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuwen import InvalidArgumentError

__all__ = ["Features", "Recall", "RetrievalReport", "recall", "retrieval_report", "top_candidates"]

_K = 10
_ROWS = 256  # queries scored at once; 256 against 100,000 candidates are 100 MB


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors with the ids of what they are of.

    Attributes:
        ids: n different ones, in the order of the file: of candidates that score alike, the first wins.
        vectors: float32 (n, D).

    Raises:
        InvalidArgumentError: an id is there twice, or the numbers differ.
    """

    ids: Sequence[int]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.vectors):
            raise InvalidArgumentError(f"{len(self.ids)} ids do not fit {len(self.vectors)} vectors")
        if len(set(self.ids)) < len(self.ids):
            seen: set[int] = set()
            twice = next(item for item in self.ids if item in seen or seen.add(item))  # type: ignore[func-returns-value]
            raise InvalidArgumentError(f"the id {twice} is there twice")


@dataclass(frozen=True)
class Recall:
    """How often something right is among the first k, in percent of the queries.

    Attributes:
        r1, r5, r10: of queries that have any truth among the first 1, 5, 10.
        queries: how many there were.
    """

    r1: float
    r5: float
    r10: float
    queries: int

    @property
    def mean(self) -> float:
        """The mean of the three, "MR" in the papers."""
        return (self.r1 + self.r5 + self.r10) / 3.0


@dataclass(frozen=True)
class RetrievalReport:
    """Both directions of one split."""

    text_to_image: Recall
    image_to_text: Recall
    images: int
    texts: int


def top_candidates(queries: NDArray[np.float32], candidates: NDArray[np.float32], count: int = _K) -> NDArray[np.intp]:
    """The positions of the best candidates of each query, (n, count), the best first.

    The score is the inner product in float32. Of equal scores the first in the file is better: the rule of Python's
    stable ``sorted``, which the original uses.
    """
    count = min(count, len(candidates))
    # Equal vectors must score alike, and matrix products round by the place in the matrix: each is scored once.
    different, place = np.unique(candidates, axis=0, return_inverse=True)
    best = np.empty((len(queries), count), dtype=np.intp)
    for start in range(0, len(queries), _ROWS):
        scores = (queries[start : start + _ROWS] @ different.T)[:, place.reshape(-1)]
        # A full sort of every row is what takes time; only what is at least as good as the last place matters.
        bounds = -np.partition(-scores, count - 1, axis=1)[:, count - 1]
        for row, (line, bound) in enumerate(zip(scores, bounds, strict=True)):
            among = np.flatnonzero(line >= bound)
            best[start + row] = among[np.argsort(-line[among], kind="stable")[:count]]
    return best


def recall(queries: Features, candidates: Features, truths: Mapping[int, Collection[int]]) -> Recall:
    """Recall of the queries that have truths. A truth that is no candidate is never found, as in the original.

    Raises:
        InvalidArgumentError: there are no queries or no candidates, or a query with truths has no vector.
    """
    position = {item: index for index, item in enumerate(queries.ids)}
    if missing := [item for item in truths if item not in position]:
        raise InvalidArgumentError(f"{len(missing)} queries have no vector: {missing[:5]}")
    if not truths or not len(candidates.ids):
        raise InvalidArgumentError("recall needs queries with truths, and candidates")
    rows = [position[item] for item in truths]
    ids = np.asarray(candidates.ids)
    found = ids[top_candidates(queries.vectors[rows], candidates.vectors)]
    ranks = np.array(
        [
            next((rank for rank, item in enumerate(line) if item in wanted), _K)
            for line, wanted in zip(found.tolist(), map(set, truths.values()), strict=True)
        ]
    )
    r1, r5, r10 = (float((ranks < k).mean() * 100) for k in (1, 5, 10))
    return Recall(r1, r5, r10, len(rows))


def retrieval_report(images: Features, texts: Features, truths: Mapping[int, Sequence[int]]) -> RetrievalReport:
    """Text to image, and image to text.

    Args:
        truths: for every text its images. The other direction inverts them (transform_ir_annotation_to_tr.py): an
            image that no text names is no query.
    """
    inverted: dict[int, list[int]] = {}
    for text, wanted in truths.items():
        for image in wanted:
            inverted.setdefault(image, []).append(text)
    return RetrievalReport(
        text_to_image=recall(texts, images, truths),
        image_to_text=recall(images, texts, inverted),
        images=len(images.ids),
        texts=len(texts.ids),
    )

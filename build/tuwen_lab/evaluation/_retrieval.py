"""Recall at k, computed as in Chinese-CLIP's scripts (evaluation.py, make_topk_predictions.py in ``cn_clip/eval``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuwen import InvalidArgumentError

__all__ = ["Features", "Recall", "RetrievalReport", "recall", "retrieval_report", "top_candidates"]

_K = 10
_ROWS = 256  # queries scored at once; the scores of 256 queries and 100,000 candidates take 100 MB


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors with the ids of their images or texts.

    Attributes:
        ids: the n ids, all different, in the order of the file. Of candidates with equal scores, the first wins.
        vectors: the vectors, float32 (n, D).

    Raises:
        InvalidArgumentError: an id is repeated, or the numbers of ids and vectors differ.
    """

    ids: Sequence[int]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.vectors):
            raise InvalidArgumentError(
                f"expected as many ids as vectors, got {len(self.ids)} ids and {len(self.vectors)} vectors"
            )
        if len(set(self.ids)) < len(self.ids):
            seen: set[int] = set()
            twice = next(item for item in self.ids if item in seen or seen.add(item))  # type: ignore[func-returns-value]
            raise InvalidArgumentError(f"the id {twice} is repeated; expected different ids")


@dataclass(frozen=True)
class Recall:
    """The share of queries with a correct candidate among the first k, in percent.

    Attributes:
        r1, r5, r10: the recall among the first 1, 5 and 10 candidates.
        queries: the number of queries.
    """

    r1: float
    r5: float
    r10: float
    queries: int

    @property
    def mean(self) -> float:
        """The mean of R@1, R@5 and R@10, called "MR" in papers."""
        return (self.r1 + self.r5 + self.r10) / 3.0


@dataclass(frozen=True)
class RetrievalReport:
    """The recall of one split in both directions."""

    text_to_image: Recall
    image_to_text: Recall
    images: int
    texts: int


def top_candidates(queries: NDArray[np.float32], candidates: NDArray[np.float32], count: int = _K) -> NDArray[np.intp]:
    """Return the indices of the best candidates of each query, (n, count), the best first.

    The score is the inner product in float32. Of equal scores, the first in the file wins, as with Python's stable
    ``sorted`` in Chinese-CLIP's script.
    """
    count = min(count, len(candidates))
    # Matrix products round differently by position, but equal vectors must have equal scores: each is scored once.
    different, place = np.unique(candidates, axis=0, return_inverse=True)
    best = np.empty((len(queries), count), dtype=np.intp)
    for start in range(0, len(queries), _ROWS):
        scores = (queries[start : start + _ROWS] @ different.T)[:, place.reshape(-1)]
        # Sorting whole rows would be slow, so only candidates at least as good as the last place are sorted.
        bounds = -np.partition(-scores, count - 1, axis=1)[:, count - 1]
        for row, (line, bound) in enumerate(zip(scores, bounds, strict=True)):
            among = np.flatnonzero(line >= bound)
            best[start + row] = among[np.argsort(-line[among], kind="stable")[:count]]
    return best


def recall(queries: Features, candidates: Features, truths: Mapping[int, Collection[int]]) -> Recall:
    """Compute the recall of the queries that have truths. A truth that is not a candidate counts as not found.

    Raises:
        InvalidArgumentError: there are no queries or no candidates, or a query with truths has no vector.
    """
    position = {item: index for index, item in enumerate(queries.ids)}
    if missing := [item for item in truths if item not in position]:
        raise InvalidArgumentError(f"{len(missing)} queries have no vector: {missing[:5]}")
    if not truths or not len(candidates.ids):
        counts = f"{len(truths)} queries and {len(candidates.ids)} candidates"
        raise InvalidArgumentError(f"expected at least one candidate and one query that has an answer, got {counts}")
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
    """Compute the recall from text to image and from image to text.

    Args:
        images: the vectors of the images.
        texts: the vectors of the texts.
        truths: the ids of the images that fit each text, by the text's id. From image to text, the mapping is inverted
            (transform_ir_annotation_to_tr.py), so an image without a text is not a query.
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

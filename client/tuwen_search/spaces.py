"""The embedding space and the index of a collection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["INDEXES", "IndexType", "Space"]

IndexType = Literal["auto", "flat", "hnsw", "ivf_sq8"]
"""The type of Milvus's index. ``flat`` compares with every vector and is exact. ``hnsw`` is a graph: fast, and kept in
memory. ``ivf_sq8`` groups 8-bit vectors and searches some groups: a quarter of the memory. ``auto`` is ``flat`` in a
file and ``hnsw`` on a server."""

INDEXES: Mapping[str, tuple[dict[str, int], dict[str, int]]] = {
    "flat": ({}, {}),
    "hnsw": ({"M": 32, "efConstruction": 256}, {"ef": 256}),
    "ivf_sq8": ({"nlist": 1024}, {"nprobe": 64}),
}
"""The parameters of each index type: first for its construction, then for a search."""


@dataclass(frozen=True)
class Space:
    """The embedding space and the index of a collection.

    Attributes:
        fingerprint: the fingerprint of the embedding space.
        checkpoint: the checkpoint of the model.
        dimension: the dimension of the vectors.
        index: the index type; ``auto`` until the collection is created.
        generation: the number of the generation: 1, and one more after each migration to another model.
    """

    fingerprint: str
    checkpoint: str
    dimension: int
    index: IndexType = "auto"
    generation: int = 1

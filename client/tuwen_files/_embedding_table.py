"""A table of vectors with keys. It states the fingerprint of the embedding space, so that spaces are never mixed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuwen import EmbeddingSpaceError, InvalidArgumentError
from tuwen_files import _table_files

__all__ = ["EmbeddingTable"]


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """A table of vectors of one embedding space, with a key for each vector.

    Attributes:
        keys: the n keys, such as paths or texts.
        embeddings: the unit vectors, float32 (n, D); other floating-point types are converted.
        fingerprint: the fingerprint of the vectors' embedding space, from the model card.

    Raises:
        InvalidArgumentError: the numbers of keys and vectors differ, or the fingerprint is empty.
    """

    keys: Sequence[str]
    embeddings: NDArray[np.float32]
    fingerprint: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "embeddings", np.asarray(self.embeddings, dtype=np.float32))
        if self.embeddings.ndim != 2 or len(self.keys) != len(self.embeddings):
            raise InvalidArgumentError(
                f"expected embeddings of shape ({len(self.keys)}, D) for {len(self.keys)} keys, got "
                f"{self.embeddings.shape}"
            )
        if not self.fingerprint:
            raise InvalidArgumentError("expected the fingerprint of the embedding space, got an empty string")

    def __len__(self) -> int:
        return len(self.keys)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a ``.npz`` or ``.parquet`` file. If an error occurs, an existing file stays unchanged.

        Parquet needs the extra ``parquet``.

        Raises:
            InvalidArgumentError: the file has another suffix or cannot be written.
            MissingExtraError: pyarrow is not installed.
        """
        rows = _table_files.Rows(self.keys, self.embeddings, [""] * len(self.keys))
        _table_files.write(Path(path), self.fingerprint, self.embeddings.shape[1], [rows])

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, expected_fingerprint: str | None = None) -> EmbeddingTable:
        """Read a table that `save` or ``tuwen embed`` wrote.

        Raises:
            EmbeddingSpaceError: the vectors belong to another space than expected.
            InvalidArgumentError: the file is missing or is not a table.
            MissingExtraError: pyarrow is not installed.
        """
        table = cls(*_table_files.read(Path(path)))
        if expected_fingerprint not in (None, table.fingerprint):
            where = f"the vectors in '{path}'"
            raise EmbeddingSpaceError(str(expected_fingerprint), table.fingerprint, where)
        return table

    def joined(self, other: EmbeddingTable) -> EmbeddingTable:
        """Return a table with the rows of both tables.

        Raises:
            EmbeddingSpaceError: the tables belong to different spaces.
            InvalidArgumentError: the vectors have different dimensions.
        """
        self._check(other)
        return EmbeddingTable(
            [*self.keys, *other.keys], np.concatenate([self.embeddings, other.embeddings]), self.fingerprint
        )

    def cosine(self, other: EmbeddingTable) -> NDArray[np.float32]:
        """Return the cosine of every vector of this table with every vector of the other table, float32 (n, m).

        Raises:
            EmbeddingSpaceError: the tables belong to different spaces.
            InvalidArgumentError: the vectors have different dimensions.
        """
        self._check(other)
        return self.embeddings @ other.embeddings.T

    def _check(self, other: EmbeddingTable) -> None:
        if self.fingerprint != other.fingerprint:
            where = "the other table's vectors"
            raise EmbeddingSpaceError(self.fingerprint, other.fingerprint, where)
        ours, theirs = self.embeddings.shape[1], other.embeddings.shape[1]
        if ours != theirs:
            raise InvalidArgumentError(f"expected vectors of {ours} dimensions in the other table, got {theirs}")

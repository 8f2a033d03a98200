"""A table that is written in parts, so that an interrupted run loses little and can resume."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from tuwen import EmbeddingSpaceError
from tuwen_files._replacing import locked_folder, release
from tuwen_files._table_files import Rows, check_key, check_suffix, pieces, write

__all__ = ["TableWriter"]

_ROWS_A_PART = 4096


class TableWriter:
    """A writer that collects vectors in parts beside the output file, and joins them into the file at the end.

    The rows of an earlier run, finished or not, are kept: `done` holds their keys, and new rows follow them. As a
    context manager, the writer saves its rows on exit. If there was no error, it also finishes the file. From creation
    to exit it holds a lock, so that there is one writer at a time.

    Args:
        path: a ``.npz`` or ``.parquet`` file.
        fingerprint: the fingerprint of the vectors' embedding space.
        dimension: the dimension of the vectors.

    Attributes:
        done: the keys that need no more work.

    Raises:
        EmbeddingSpaceError: the file or its parts hold vectors of another space.
        InvalidArgumentError: the file has another suffix, is not a table or cannot be written; or another process is
            writing it.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, path: Path, fingerprint: str, dimension: int) -> None:
        check_suffix(path)
        self._path = path
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._folder = path.with_name(path.name + ".parts")
        self._keys: list[str] = []
        self._embeddings: list[NDArray[np.float32]] = []
        self.done: set[str] = set()
        self._unlock = weakref.finalize(self, release, locked_folder(self._folder))
        try:
            for file in self._files():
                self.done.update(key for names, _ in self._rows(file) for key in names)
        except BaseException:
            self._remove_folder(with_parts=False)
            self._unlock()
            raise

    def add(self, key: str, embedding: NDArray[np.float32]) -> None:
        """Add one vector (D,).

        Raises:
            InvalidArgumentError: the file cannot hold the key, or a part cannot be written.
        """
        check_key(self._path, key)
        self._keys.append(key)
        self._embeddings.append(embedding)
        if len(self._keys) == _ROWS_A_PART:
            self._write_part()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._write_part()
            if kind is None:
                write(self._path, self._fingerprint, self._dimension, self._all())
            self._remove_folder(with_parts=kind is None)
        finally:
            self._unlock()

    def _remove_folder(self, *, with_parts: bool) -> None:
        """Remove the folder of the parts. A folder that holds parts is only removed on request."""
        if with_parts or not any(self._folder.iterdir()):
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write_part(self) -> None:
        if self._keys:
            part = self._folder / f"{self._next_number():06d}.npz"
            write(part, self._fingerprint, self._dimension, [(self._keys, np.stack(self._embeddings))])
            self.done.update(self._keys)
            self._keys, self._embeddings = [], []

    def _all(self) -> Iterator[Rows]:
        seen: set[str] = set()  # an earlier run ended after it wrote the file and before it removed the parts
        for file in self._files():
            for keys, embeddings in self._rows(file):
                new = [index for index, key in enumerate(keys) if key not in seen]
                seen.update(keys)
                yield [keys[index] for index in new], embeddings[new]

    def _rows(self, file: Path) -> Iterator[Rows]:
        fingerprint, rows = pieces(file)
        if fingerprint != self._fingerprint:
            raise EmbeddingSpaceError(self._fingerprint, fingerprint, f"the vectors in {file} (choose another output)")
        return rows

    def _files(self) -> list[Path]:
        finished = [self._path] if self._path.exists() else []
        return [*finished, *self._parts()]

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.npz"))

    def _next_number(self) -> int:
        parts = self._parts()
        return int(parts[-1].stem) + 1 if parts else 0

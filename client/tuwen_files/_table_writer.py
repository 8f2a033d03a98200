"""A writer of tables of vectors in parts, so that an interrupted run loses little and can be resumed."""

from __future__ import annotations

import shutil
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from tuwen import EmbeddingSpaceError
from tuwen_files._table_files import Rows, check_key, check_suffix, pieces, write
from tuwen_files.disk_space import check_space
from tuwen_files.replacing import locked_folder, release

__all__ = ["TableWriter"]

_ROWS_A_PART = 4096
_KEY_BYTES = 64  # the approximate size of a key and its version


class TableWriter:
    """A writer that collects vectors in parts beside the output file, and joins the parts into the file at the end.

    The rows of earlier runs are kept, even if a run was interrupted. New rows are added at the end, and a row with a
    known key replaces the earlier row. The writer is a context manager. At the end of the block, it writes the
    collected rows to a part, and joins the parts if there was no error. It holds a lock, so that only one process
    writes a file at a time.

    Args:
        path: a ``.npz`` or ``.parquet`` file.
        fingerprint: the fingerprint of the vectors' embedding space.
        dimension: the dimension of the vectors.

    Attributes:
        versions: the version of the file of each row, by key; empty for a row without a file.

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
        self._new_versions: list[str] = []
        self._kept_versions: dict[str, str] = {}
        self._removed: set[str] = set()
        self.versions: dict[str, str] = {}
        self._unlock = weakref.finalize(self, release, locked_folder(self._folder))
        try:
            for file in self._files():
                for keys, _, versions in self._rows(file):
                    self.versions.update(zip(keys, versions, strict=True))
        except BaseException:
            self._remove_folder(with_parts=False)
            self._unlock()
            raise

    @property
    def done(self) -> Set[str]:
        """The keys of all rows that are written to the file or to a part."""
        return self.versions.keys()

    def add(self, key: str, embedding: NDArray[np.float32], version: str = "") -> None:
        """Add one row. If the key is known, the new row replaces the earlier row.

        Args:
            key: the key, such as a path or a text.
            embedding: the vector, float32 (D,).
            version: the version of the embedded file, as `tuwen_files.file_versions` defines it; empty: no file.

        Raises:
            InvalidArgumentError: the file cannot hold the key, or a part cannot be written.
        """
        check_key(self._path, key)
        self._keys.append(key)
        self._embeddings.append(embedding)
        self._new_versions.append(version)
        self._removed.discard(key)
        self._kept_versions.pop(key, None)
        if len(self._keys) == _ROWS_A_PART:
            self._write_part()

    def check_space(self, new: int) -> None:
        """Check that the disk has space for the new rows in parts, and for all rows in the finished file.

        Args:
            new: the number of new rows.

        Raises:
            DiskFullError: the disk has too little free space.
        """
        if new:
            rows = 2 * new + len(self.versions)
            check_space(self._path, rows * (4 * self._dimension + _KEY_BYTES), f"'{self._path.name}'")

    def keep(self, key: str, version: str) -> None:
        """Store the new version of a file whose content has not changed. The row of the file keeps its vector."""
        self.versions[key] = self._kept_versions[key] = version

    def remove(self, keys: Iterable[str]) -> None:
        """Mark rows for removal. They are removed when the parts are joined, so an interrupted run removes no rows."""
        self._removed.update(keys)

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        finished = False
        try:
            self._write_part()
            if kind is None and self._has_news():
                write(self._path, self._fingerprint, self._dimension, self._all())
            finished = kind is None
        finally:
            self._remove_folder(with_parts=finished)
            self._unlock()

    def _has_news(self) -> bool:
        removed = not self._removed.isdisjoint(self.versions)
        return bool(self._parts() or self._kept_versions or removed or not self._path.exists())

    def _remove_folder(self, *, with_parts: bool) -> None:
        """Remove the folder of the parts. A folder that still holds parts is removed only if `with_parts` is true."""
        if with_parts or not any(self._folder.iterdir()):
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write_part(self) -> None:
        if self._keys:
            part = self._folder / f"{self._next_number():06d}.npz"
            rows = Rows(self._keys, np.stack(self._embeddings), self._new_versions)
            write(part, self._fingerprint, self._dimension, [rows])
            self.versions.update(zip(self._keys, self._new_versions, strict=True))
            self._keys, self._embeddings, self._new_versions = [], [], []

    def _all(self) -> Iterator[Rows]:
        """Yield the latest row of each key, except for removed rows."""
        rest = Counter(key for file in self._files() for keys, _, _ in self._rows(file) for key in keys)
        for file in self._files():
            for keys, embeddings, versions in self._rows(file):
                last = []
                for index, key in enumerate(keys):
                    rest[key] -= 1
                    if not rest[key] and key not in self._removed:
                        last.append(index)
                kept = [self._kept_versions.get(keys[index], versions[index]) for index in last]
                yield Rows([keys[index] for index in last], embeddings[last], kept)

    def _rows(self, file: Path) -> Iterator[Rows]:
        fingerprint, rows = pieces(file)
        if fingerprint != self._fingerprint:
            where = f"the vectors in '{file}' (choose another output)"
            raise EmbeddingSpaceError(self._fingerprint, fingerprint, where)
        return rows

    def _files(self) -> list[Path]:
        finished = [self._path] if self._path.exists() else []
        return [*finished, *self._parts()]

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.npz"))

    def _next_number(self) -> int:
        parts = self._parts()
        return int(parts[-1].stem) + 1 if parts else 0

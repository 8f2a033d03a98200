"""The update of a table of vectors from files: new and changed files are embedded, and old rows are removed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tuwen import ItemFailure, ItemOutcome, RefusedItem
from tuwen_files._table_writer import TableWriter
from tuwen_files.file_versions import content_checksum, file_stamp, read_regular_file, same_stamp

__all__ = ["TableUpdate", "UpdateReport"]

_READ_BY_THE_CLIENT = "unreadable"


@dataclass
class UpdateReport:
    """The result of updating a table from files.

    Attributes:
        added: the number of new rows.
        changed: the number of rows that got a new vector.
        unchanged: the number of rows whose files have not changed.
        removed: the number of removed rows.
        failures: the files that were refused, or that could not be read.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failures: list[RefusedItem] = field(default_factory=list)


class TableUpdate:
    """One update of a table from files.

    The caller embeds the files that `wanted` yields, passes each outcome to `take`, and calls `finish` at the end.

    If a file has the size and time that its row states, the file is unchanged and is not read. Any other file is read.
    If its content has the checksum that the row states, the file is unchanged, and the row keeps the vector. A row is
    removed if its file is missing, or if its file has changed and can no longer be embedded.

    Args:
        writer: the writer of the table.
        files: the paths of the files. Each path is the key of a row.
        folders: the folders that were searched for the files. Rows of files in other folders stay.
        unseen: the paths that could not be read. Rows of files at and below these paths stay.
        keep_removed: whether to keep the rows of missing files.
        max_bytes: the server's maximum size of an image in bytes. Larger files are not read.
    """

    def __init__(
        self,
        writer: TableWriter,
        files: Sequence[str],
        *,
        folders: Sequence[str] = (),
        unseen: Sequence[str] = (),
        keep_removed: bool = False,
        max_bytes: int,
    ) -> None:
        self._writer, self._files = writer, dict.fromkeys(files)
        self._folders = folders
        self._unseen = unseen
        self._keep_removed, self._max_bytes = keep_removed, max_bytes
        self._known = dict(writer.versions)
        self._versions: dict[str, str] = {}
        self.report = UpdateReport()

    def count(self) -> int:
        """Return the number of files that differ from their rows in size or time."""
        return sum(not same_stamp(self._known.get(file, ""), _stamp(file)) for file in self._files)

    def wanted(self) -> Iterator[tuple[str, bytes | str]]:
        """Yield the key and content of each new or changed file. For an unreadable file, the content is its path."""
        for file in self._files:
            stamp, known = _stamp(file), self._known.get(file)
            if known is not None and same_stamp(known, stamp):
                self.report.unchanged += 1
                continue
            data: bytes | str = file  # the client gets the path, and reports what is wrong with the file
            if stamp and int(stamp.partition("-")[0]) <= self._max_bytes:
                try:
                    data = read_regular_file(Path(file))
                except OSError:
                    data = file
            if isinstance(data, bytes):
                checksum = content_checksum(data)
                if known and known.partition(":")[2] == checksum:
                    self._writer.keep(file, f"{stamp}:{checksum}")
                    self.report.unchanged += 1
                    continue
                self._versions[file] = f"{stamp}:{checksum}"
            yield file, data

    def take(self, outcome: ItemOutcome) -> None:
        """Record the outcome of one file that `wanted` yielded."""
        key = str(outcome.key)
        version = self._versions.pop(key, "")
        if outcome.embedding is None:
            self.report.failures.append(outcome)
            if key in self._known and outcome.error.reason != _READ_BY_THE_CLIENT:
                self._writer.remove([key])
                self.report.removed += 1
            return
        self._writer.add(key, outcome.embedding, version)
        if key in self._known:
            self.report.changed += 1
        else:
            self.report.added += 1

    def refuse(self, key: str, reason: str, message: str) -> None:
        """Add a path to the failures of the report, such as the path of a folder that cannot be listed.

        Args:
            key: the path.
            reason: the reason as one word for programs, such as ``unreadable``.
            message: the reason as one line of text for people.
        """
        self.report.failures.append(RefusedItem(-1, key, ItemFailure(-1, reason, message)))

    def missing(self) -> list[str]:
        """Return the keys of the rows whose files are missing in the searched folders."""
        return [
            key
            for key in self._known
            if key not in self._files
            and any(_is_below(key, folder) for folder in self._folders)
            and not any(_is_below(key, path) for path in self._unseen)
        ]

    def finish(self) -> None:
        """Remove the rows of missing files if `keep_removed` is false. Call this after the last outcome."""
        if not self._keep_removed:
            gone = self.missing()
            self._writer.remove(gone)
            self.report.removed += len(gone)


def _stamp(file: str) -> str:
    try:
        return file_stamp(Path(file))
    except OSError:
        return ""


def _is_below(key: str, folder: str) -> bool:
    """Return whether a key is the folder's path or a path in the folder, at any depth. Paths are compared as texts."""
    folder = str(Path(folder))
    if folder == os.curdir:
        return not os.path.isabs(key) and Path(key).parts[:1] != (os.pardir,)
    return key == folder or key.startswith(os.path.join(folder, ""))

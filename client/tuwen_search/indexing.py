"""The update of a collection from a source: find new, changed and missing pictures, and embed each picture once."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen import ItemOutcome
from tuwen_files.file_versions import content_checksum
from tuwen_search.entries import Found, NoBytesError, Unseen
from tuwen_search.errors import SourceError
from tuwen_search.records import Picture, describe, picture_id, plain_metadata
from tuwen_search.rows import why_not_kept
from tuwen_search.sources import Source
from tuwen_search.store import MilvusStore

__all__ = ["Failure", "Indexing", "Report"]

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Failure:
    """A picture that was skipped, or a part of a source that could not be read.

    Attributes:
        name: the name of the picture or part within its source.
        reason: the reason as one word for programs, such as ``corrupt``, ``unreadable``, ``damaged`` or ``emptied``.
        message: the reason as one line for people.
    """

    name: str
    reason: str
    message: str


@dataclass
class Report:
    """The result of an update of a collection from a source.

    Attributes:
        source: the source's name in the collection.
        added, changed, unchanged, removed: the numbers of pictures that are new, have changed, have not changed, or
            were removed.
        updated: the number of pictures that got new metadata and kept their vectors.
        failures: the pictures that were skipped, and the parts of the source that could not be read.
        ignored: the numbers of files that are not pictures, by suffix.
        ignored_names: the names, within the source, of the files that are not pictures.
        seconds: the duration of the update in seconds.
    """

    source: str
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    updated: int = 0
    failures: list[Failure] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=Counter)
    ignored_names: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Known:
    """The stored version of a picture that is in the collection already.

    Attributes:
        version: the version of the picture when it was added.
        sha256: the checksum of the picture's bytes.
    """

    version: str
    sha256: str

    def has_content(self, content_version: str) -> bool:
        """Return whether the stored picture certainly has the bytes of this content version."""
        return bool(content_version) and (
            self.version == content_version or self.version.startswith(f"{content_version}-")
        )

    def is_of(self, found: Found) -> bool:
        """Return whether a found picture has the stored version or content version, so that it need not be read."""
        return self.version == found.version or self.has_content(found.content_version)


class Indexing:
    """One update from a source. The caller embeds the pictures of `wanted`, and passes each outcome to `take`.

    The caller calls `finish` at the end of the source, and `close` in any case. Embedded pictures are written in groups
    of 256 and by `close`, so that the next run resumes an interrupted run.

    A part of the source that cannot be read is a failure, and the pictures of this part stay in the collection. A
    picture is removed if it is missing in a part that was read completely, or if its file changed and can no longer be
    embedded.

    Args:
        keep_removed: whether pictures that are no longer in the source stay in the collection.
        confirm_removal: whether all pictures of a source that is empty now are removed from the collection. By default,
            an empty source is a failure, because a disk that is not mounted looks empty, too.

    Raises:
        SourceError: the source's name is too long for the store, or not UTF-8.
    """

    def __init__(
        self,
        store: MilvusStore,
        collection: str,
        source: Source,
        *,
        keep_removed: bool = False,
        confirm_removal: bool = False,
    ) -> None:
        if reason := why_not_kept({}, source=source.name):
            raise SourceError(f"cannot index the source: {reason}")
        self._store, self._collection, self._source = store, collection, source
        self._keep_removed, self._confirm_removal = keep_removed, confirm_removal
        self._name, *self._other_names = _names_in(store, collection, source)
        rows = store.every(collection, ["name", "version", "sha256"], source=self._name)
        self._known = {row["name"]: _Known(row["version"], row["sha256"]) for row in rows}
        self._seen: set[str] = set()
        self._unseen: list[Unseen] = []
        self._broken: set[str] = set()
        self._unread: set[str] = set()
        self._described: dict[str, Future[Picture]] = {}
        self._renewed: dict[str, tuple[str, dict[str, Any]]] = {}
        self._ready: list[tuple[Picture, NDArray[np.float32]]] = []
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="tuwen-thumbnails")
        self._start = time.monotonic()
        self.report = Report(self._name)

    def wanted(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the bytes of each picture that is new or has changed."""
        for entry in self._source.pictures():
            if isinstance(entry, Found):
                yield from self._read(entry)
            elif isinstance(entry, Unseen):
                self._unseen.append(entry)
                self._fail(entry.name, entry.reason, entry.message)
            else:
                self.report.ignored[entry.kind] += entry.count
                self.report.ignored_names += entry.names

    def _read(self, found: Found) -> Iterator[tuple[str, bytes]]:
        if found.name in self._seen:
            self._fail(found.name, "twice", "the source has this name twice; only the first picture is used")
            return
        self._seen.add(found.name)
        known = self._known.get(found.name)
        if known and known.version == found.version:
            self.report.unchanged += 1
            return
        metadata = plain_metadata(found.metadata)
        if reason := why_not_kept(metadata, name=found.name, version=found.version):
            self._broken.add(found.name)
            self._fail(found.name, "unfit", reason)
            return
        data = None if known and known.has_content(found.content_version) else self._content(found)
        if known and (data is None or known.sha256 == content_checksum(data)):
            if found.name not in self._unread:
                self._renew(found, metadata)
            return
        if data is None:
            return
        self._described[found.name] = self._pool.submit(
            describe,
            data,
            source=self._name,
            name=found.name,
            version=found.version,
            metadata=metadata,
        )
        yield found.name, data

    def _content(self, found: Found) -> bytes | None:
        """Return the bytes of a picture. If they cannot be read, return None and report a failure."""
        try:
            return found.read()
        except NoBytesError as error:
            self._broken.add(found.name)
            self._fail(found.name, "no_bytes", str(error))
        except OSError as error:
            self._fail(found.name, "unreadable", error.strerror or str(error))
        self._unread.add(found.name)
        return None

    def _renew(self, found: Found, metadata: dict[str, Any]) -> None:
        """Store the new version and metadata of a picture whose bytes have not changed."""
        self._renewed[found.name] = found.version, metadata
        if len(self._renewed) == _ROWS_AT_ONCE:
            self._write_renewed()

    def count(self) -> int:
        """Return the number of pictures that may have changed. The source must list pictures without reading them."""
        found = {entry.name: entry for entry in self._source.pictures() if isinstance(entry, Found)}
        return sum(not (name in self._known and self._known[name].is_of(entry)) for name, entry in found.items())

    def prepare(self, dimension: int, *, counted: bool = False) -> int | None:
        """Check that the disk of the store has space for the pictures of a source, if they can be counted quickly.

        Args:
            dimension: the dimension of the vectors.
            counted: whether the caller needs the number of pictures.

        Returns:
            The number of pictures that may have changed; None if it was not counted.

        Raises:
            DiskFullError: the disk has too little free space.
        """
        if not self._source.quick or (self._store.remote and not counted):
            return None
        total = self.count()
        self._store.check_space(total, dimension)
        return total

    def take(self, outcome: ItemOutcome) -> None:
        """Record the outcome of one picture that `wanted` yielded."""
        name = str(outcome.key)
        described = self._described.pop(name)
        if outcome.embedding is None:
            error = outcome.error
            self._broken.add(name)
            self._fail(name, error.reason if error else "", error.message if error else "")
            return
        self._ready.append((described.result(), outcome.embedding))
        if name in self._known:
            self.report.changed += 1
        else:
            self.report.added += 1
        if len(self._ready) == _ROWS_AT_ONCE:
            self._write()

    def finish(self) -> None:
        """Remove pictures that are broken, or that the source no longer has. Call this at the end of the source."""
        gone = {(self._name, name) for name in self._known.keys() & self._broken}
        if not self._keep_removed:
            missing = {
                name
                for name in self._known.keys() - self._seen
                if not any(part.may_hold(name) for part in self._unseen)
            }
            if missing and not self._seen and not self._confirm_removal:
                self._fail(
                    self._name,
                    "emptied",
                    f"the source is empty, but the collection has {len(missing):,} pictures from it. If the disk is "
                    "not mounted, mount it; if the pictures are gone for good, run again with --confirm-removal",
                )
            else:
                gone |= {(self._name, name) for name in missing}
                gone |= self._under_other_names()
        self._store.remove(self._collection, [picture_id(source, name) for source, name in sorted(gone)])
        self.report.removed = len(gone)

    def _under_other_names(self) -> set[tuple[str, str]]:
        """Return the pictures that the collection contains a second time, under another path of the same source."""
        if self._unseen or not self._seen:
            return set()
        return {
            (name, row["name"])
            for name in self._other_names
            for row in self._store.every(self._collection, ["name"], source=name)
        }

    def close(self) -> None:
        """Write the embedded pictures, even if the run ends early."""
        self._pool.shutdown(cancel_futures=True)
        if self._ready:
            self._write()
        if self._renewed:
            self._write_renewed()
        if self.report.added or self.report.changed or self.report.removed or self.report.updated:
            self._store.flush(self._collection)
        self.report.seconds = time.monotonic() - self._start

    def _write(self) -> None:
        pictures, vectors = zip(*self._ready, strict=True)
        self._store.put(self._collection, pictures, vectors)
        self._ready = []

    def _write_renewed(self) -> None:
        """Write new versions and metadata. The vectors stay as they are."""
        ids = {picture_id(self._name, name): name for name in self._renewed}
        pictures, vectors = [], []
        for key, (picture, vector) in self._store.get(self._collection, list(ids)).items():
            version, metadata = self._renewed[ids[key]]
            if metadata == dict(picture.metadata):
                self.report.unchanged += 1
            else:
                self.report.updated += 1
            pictures.append(replace(picture, version=version, metadata=metadata))
            vectors.append(vector)
        self._store.put(self._collection, pictures, vectors)
        self._renewed = {}

    def _fail(self, name: str, reason: str, message: str) -> None:
        printable = name.encode("utf-8", "backslashreplace").decode()  # a file's name need not be UTF-8
        self.report.failures.append(Failure(printable, reason, message))


def _names_in(store: MilvusStore, collection: str, source: Source) -> list[str]:
    """Return the source's name in the collection, then other names under which the collection has the same source.

    A collection may have stored a folder under an unresolved path, such as a link. Then its pictures keep this path and
    their vectors.
    """
    if not source.is_path:
        return [source.name]
    others = store.sources(collection).keys() - {source.name}
    same = sorted(other for other in others if os.path.isabs(other) and os.path.realpath(other) == source.name)
    known = same and next(iter(store.every(collection, ["name"], source=source.name)), None) is not None
    return [source.name, *same] if known or not same else same

"""What of a source is new, changed or gone, and bringing a collection up to it: each picture once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tuwen import ItemOutcome
from tuwen_search.errors import SourceError
from tuwen_search.records import Picture, describe, picture_id
from tuwen_search.sources import Source
from tuwen_search.store import MilvusStore, why_not_kept

__all__ = ["Failure", "Indexing", "Report"]

_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Failure:
    """A picture that was left out.

    Attributes:
        name: within its source.
        reason: one word for programs, such as ``corrupt`` or ``unreadable``.
        message: one line for people.
    """

    name: str
    reason: str
    message: str


@dataclass
class Report:
    """What bringing a collection up to a source has done.

    Attributes:
        source: its name.
        added, changed, unchanged, removed: numbers of pictures.
        failures: those that were left out.
        seconds: how long it took.
    """

    source: str
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0


class Indexing:
    """One run over a source. Whoever runs it embeds what `wanted` gives, hands every outcome to `take`, and closes.

    What was embedded is written every 256 pictures, and when it closes, be it early: the next run goes on from there.

    Args:
        keep_missing: what the source no longer has stays in the collection.

    Raises:
        SourceError: the source's name is longer than the store can hold, or not UTF-8.
    """

    def __init__(self, store: MilvusStore, collection: str, source: Source, *, keep_missing: bool = False) -> None:
        if reason := why_not_kept({}, source=source.name):
            raise SourceError(f"a source cannot be kept: {reason}")
        self._store, self._collection, self._source = store, collection, source
        self._keep_missing = keep_missing
        rows = store.every(collection, ["name", "version"], source=source.name)
        self._known: dict[str, str] = {row["name"]: row["version"] for row in rows}
        self._seen: set[str] = set()
        self._described: dict[str, Future[Picture]] = {}
        self._ready: list[tuple[Picture, NDArray[np.float32]]] = []
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="tuwen-thumbnails")
        self._start = time.monotonic()
        self.report = Report(source.name)

    def wanted(self) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of each picture that is not in the collection as it is now."""
        for found in self._source.pictures():
            if found.name in self._seen:
                self._fail(found.name, "twice", "the source has this name twice; the first is taken")
                continue
            self._seen.add(found.name)
            if self._known.get(found.name) == found.version:
                self.report.unchanged += 1
                continue
            if reason := why_not_kept(found.metadata, name=found.name, version=found.version):
                self._fail(found.name, "unfit", reason)
                continue
            try:
                data = found.read()
            except OSError as error:
                self._fail(found.name, "unreadable", error.strerror or str(error))
                continue
            self._described[found.name] = self._pool.submit(
                describe,
                data,
                source=self._source.name,
                name=found.name,
                version=found.version,
                metadata=found.metadata,
            )
            yield found.name, data

    def count(self) -> int:
        """How many `wanted` will give, for a source whose pictures are found without being read."""
        versions = {found.name: found.version for found in self._source.pictures()}
        return sum(self._known.get(name) != version for name, version in versions.items())

    def take(self, outcome: ItemOutcome) -> None:
        """What became of one of them."""
        name = str(outcome.key)
        described = self._described.pop(name)
        if outcome.embedding is None:
            error = outcome.error
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
        """All of the source was seen: take out what it no longer has, or has broken."""
        failed = {failure.name for failure in self.report.failures if failure.reason != "twice"}
        gone = self._known.keys() & failed
        if not self._keep_missing:
            gone |= self._known.keys() - self._seen
        self._store.remove(self._collection, [picture_id(self._source.name, name) for name in sorted(gone)])
        self.report.removed = len(gone)

    def close(self) -> None:
        """Write what is ready, also when the run ends early."""
        self._pool.shutdown(cancel_futures=True)
        if self._ready:
            self._write()
        if self.report.added or self.report.changed or self.report.removed:
            self._store.flush(self._collection)
        self.report.seconds = time.monotonic() - self._start

    def _write(self) -> None:
        pictures, vectors = zip(*self._ready, strict=True)
        self._store.put(self._collection, pictures, vectors)
        self._ready = []

    def _fail(self, name: str, reason: str, message: str) -> None:
        printable = name.encode("utf-8", "backslashreplace").decode()  # a file's name may be any bytes
        self.report.failures.append(Failure(printable, reason, message))

"""The embedding of all pictures of one Milvus collection into another, repeated until both hold the same pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tuwen import Client, ItemOutcome
from tuwen_search.indexing import Failure
from tuwen_search.originals import Original, Wanted, originals_of, path_of
from tuwen_search.records import Picture
from tuwen_search.store import MilvusStore

__all__ = ["Reembedding"]

_ROWS_AT_ONCE = 256
_FIELDS = ("source", "name", "version", "sha256", "metadata")


@dataclass
class _Differences:
    """The differences between the old and the new vectors.

    Attributes:
        wanted: the pictures to embed, grouped by source: pictures without a new vector, and pictures whose file changed
            after the new vector was made.
        known: the checksum that a changed file had when its new vector was made, by the picture's ID.
        renewed: the IDs of pictures whose file is unchanged and whose record changed.
        gone: the IDs of new vectors to remove: the old collection no longer has the picture, or its file cannot be
            embedded.
    """

    wanted: dict[str, list[Wanted]] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    renewed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class Reembedding:
    """The embedding of all pictures of the old Milvus collection into the new one, with the client's model.

    Args:
        old, new: the names of the two Milvus collections. The new one may contain vectors of an earlier run.
        only_missing: whether to add only the pictures that are missing in the new collection.
        progress: whether to show a progress bar on standard error, if standard error is a terminal.

    Attributes:
        new, only_missing: the arguments with these names, which the caller may change.
        embedded, updated, changed: the numbers of pictures, as in `tuwen_search.migration.MigrationReport`.
    """

    def __init__(
        self,
        store: MilvusStore,
        old: str,
        new: str,
        client: Client,
        *,
        only_missing: bool = False,
        progress: bool = False,
    ) -> None:
        self._store, self._old, self.new, self._client = store, old, new, client
        self.only_missing, self._progress = only_missing, progress
        self._failed: dict[str, Failure] = {}
        self._ready: list[tuple[Wanted, Picture | None, NDArray[np.float32]]] = []
        self._pictures = self.embedded = self.updated = self.changed = 0

    @property
    def failures(self) -> list[Failure]:
        """The pictures that could not be embedded."""
        return list(self._failed.values())

    @property
    def expected(self) -> int:
        """The number of vectors that the new collection must have after `catch_up` has returned False."""
        return self._pictures - len(self._failed)

    def catch_up(self) -> bool:
        """Update the new collection from the old one, and return whether the two collections differed.

        Raises:
            StoreError, ServerError: the store or the embedding server failed. Pictures that are embedded already are
                kept.
        """
        found = self._differences()
        before, failed = self.embedded + self.updated, len(self._failed)
        self._store.remove(self.new, found.gone)
        for start in range(0, len(found.renewed), _ROWS_AT_ONCE):
            self._renew(found.renewed[start : start + _ROWS_AT_ONCE])
        self._embed(found)
        written = bool(found.gone) or self.embedded + self.updated > before
        if written:
            self._store.flush(self.new)
        return written or len(self._failed) > failed

    def _differences(self) -> _Differences:
        there = {row["id"]: (row["sha256"], _digest(row)) for row in self._store.every(self.new, _FIELDS)}
        found, failed, count = _Differences(), dict[str, Failure](), 0
        for row in self._store.every(self._old, _FIELDS):
            key, count = row["id"], count + 1
            has = there.pop(key, None)
            if has == (row["sha256"], _digest(row)) or (has is not None and self.only_missing):
                continue
            if key in self._failed:
                failed[key] = self._failed[key]
                found.gone += [key] if has is not None else []
            elif has is not None and has[0] == row["sha256"]:
                found.renewed.append(key)
            else:
                one = Wanted(key, row["source"], row["name"], row["sha256"])
                found.wanted.setdefault(one.source, []).append(one)
                if has is not None:
                    found.known[key] = has[0]
        if not self.only_missing:
            found.gone += there
        self._failed, self._pictures = failed, count
        return found

    def _renew(self, ids: Sequence[str]) -> None:
        """Write changed records into the new collection. The vectors stay as they are."""
        records, vectors = self._store.get(self._old, ids), self._store.get(self.new, ids)
        both = [key for key in ids if key in records and key in vectors]
        if both:
            self._store.put(self.new, [records[key][0] for key in both], [vectors[key][1] for key in both])
            self.updated += len(both)

    def _embed(self, found: _Differences) -> None:
        pending: dict[str, tuple[Wanted, Picture | None]] = {}

        def images() -> Iterator[tuple[str, bytes]]:
            for original in chain.from_iterable(originals_of(*item) for item in found.wanted.items()):
                if not isinstance(original, Original):
                    one, self._failed[one.id] = original
                elif original.sha256 != found.known.get(original.wanted.id):
                    pending[original.wanted.id] = original.wanted, original.changed
                    yield original.wanted.id, original.data

        total = sum(map(len, found.wanted.values()))
        hidden = None if self._progress and total else True  # None: hidden unless standard error is a terminal
        try:
            with tqdm(total=total, unit=" pictures", disable=hidden, smoothing=0.05) as bar:
                for outcome in self._client.stream_images(images()):
                    self._take(outcome, *pending.pop(str(outcome.key)))
                    bar.update()
        finally:
            self._write()

    def _take(self, outcome: ItemOutcome, wanted: Wanted, changed: Picture | None) -> None:
        if outcome.embedding is None:
            error = outcome.error
            self._failed[wanted.id] = Failure(
                path_of(wanted), error.reason if error else "", error.message if error else ""
            )
            return
        self._ready.append((wanted, changed, outcome.embedding))
        if len(self._ready) == _ROWS_AT_ONCE:
            self._write()

    def _write(self) -> None:
        records = self._store.get(self._old, [wanted.id for wanted, _, _ in self._ready])
        rows = [
            (_record(changed, records[wanted.id][0]), vector)
            for wanted, changed, vector in self._ready
            # Otherwise the picture was removed or indexed again during this pass, and the next pass handles it.
            if wanted.id in records and records[wanted.id][0].sha256 == wanted.sha256
        ]
        if rows:
            self._store.put(self.new, [picture for picture, _ in rows], [vector for _, vector in rows])
        self.embedded += len(rows)
        self.changed += sum(changed is not None for _, changed, _ in self._ready)
        self._ready = []


def _record(changed: Picture | None, kept: Picture) -> Picture:
    """Return the record to write. If the source has no metadata for a changed file, the stored metadata is kept."""
    return kept if changed is None else replace(changed, metadata=changed.metadata or kept.metadata)


def _digest(row: Mapping[str, Any]) -> bytes:
    """Return a hash of the source, the name, the version and the metadata in a picture's record."""
    told = json.dumps([row["source"], row["name"], row["version"], row["metadata"]], sort_keys=True, default=str)
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).digest()

"""The store of vectors and records: a Milvus Lite file, a Milvus server or a cluster, with the same calls."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from tuwen import MissingExtraError
from tuwen_files.disk_space import check_space, is_disk_full, os_reason
from tuwen_options import Option
from tuwen_search.errors import CollectionNotFoundError, QueryError, SearchError, StoreError
from tuwen_search.filters import any_of, checked_id, compared, expanded
from tuwen_search.places import collection_of, is_place_of
from tuwen_search.records import Picture, short_hash
from tuwen_search.rows import NUMBERS, RECORD, TEXTS, picture_of, row_of, vector_of
from tuwen_search.sharing import answers, open_or_borrow, publish, withdraw

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["STORE", "IndexType", "MilvusStore", "Space", "default_store"]

IndexType = Literal["auto", "flat", "hnsw", "ivf_sq8"]
"""``flat`` compares with every vector and is exact. ``hnsw`` is a graph: fast, and held in memory. ``ivf_sq8`` groups
8-bit vectors and searches some groups: a quarter of the memory. ``auto``: flat in a file, hnsw on a server."""

_INDEXES: Mapping[str, tuple[dict[str, int], dict[str, int]]] = {
    "flat": ({}, {}),
    "hnsw": ({"M": 32, "efConstruction": 256}, {"ef": 256}),
    "ivf_sq8": ({"nlist": 1024}, {"nprobe": 64}),
}
"""The parameters of each index type: of its construction and of a search."""
_TIMEOUT = 60.0
_FARTHEST = 16_384  # of Milvus: no page may end behind it
_ROWS_AT_ONCE = 1_000
_VECTORS_KEPT = 3  # in the log of writes, in the data and in the index
_RECORD_BYTES = 1024  # of paths, metadata and a small thumbnail; those of photographs are larger
_IDS = 1 << 128  # an ID is 32 hexadecimal digits
_users: Counter[str] = Counter()  # how many stores of this process have a file open
_LOCKED = "Open local milvus failed"
_NOT_FOUND = 100  # the error code of Milvus
_CARD = {
    attribute: f"tuwen.{attribute}" for attribute in ("fingerprint", "checkpoint", "dimension", "index", "generation")
}


STORE = Option(
    "Place of the collections: the address of a Milvus server, such as http://host:19530, or a file (Milvus Lite). "
    "Default: a file in the user's folder for data.",
    envvar="TUWEN_STORE",
)
"""The option of every command that opens a collection."""


def default_store() -> str:
    """Return TUWEN_STORE, or a file in the user's folder for data."""
    home = os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
    return os.environ.get("TUWEN_STORE") or str(Path(home, "tuwen", "collections.db"))


@dataclass(frozen=True)
class Space:
    """The embedding space and the index of a collection.

    Attributes:
        fingerprint: the fingerprint of the embedding space.
        checkpoint: the checkpoint of the model.
        dimension: the dimension of the vectors.
        index: the index type; ``auto`` until the collection is created.
        generation: 1, and one more after each migration to another model.
    """

    fingerprint: str
    checkpoint: str
    dimension: int
    index: IndexType = "auto"
    generation: int = 1


class MilvusStore:
    """The collections of one Milvus server or file.

    Attributes:
        url: the address of the server, without the password; or the absolute path of the file, with links resolved.
        remote: whether the store is a server.

    Args:
        url: the address of a server or cluster, such as ``http://host:19530``, with ``user:password@`` if the server
            requires it; or a file that ends in ``.db``.
        timeout: seconds for each call.

    Raises:
        StoreError: the server does not respond, or another process has the file open.
        QueryError: the URL is neither an address nor a file that ends in ``.db``.
        MissingExtraError: pymilvus is not installed.
    """

    def __init__(self, url: str | None = None, *, timeout: float = _TIMEOUT) -> None:
        try:
            from pymilvus import MilvusClient, MilvusException  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise MissingExtraError(f"search needs an extra ({error}): pip install 'tuwen[search]'") from error
        for library in ("pymilvus", "milvus_lite"):  # which print a traceback of every error that they raise
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self._exception = MilvusException
        given = url or default_store()
        self.remote = "://" in given
        self.url = _without_secrets(given)
        self._timeout = timeout
        self._closed = False
        if not self.remote:
            # Two names of one file, such as a link, are one store: the file can be opened only once.
            self.url = str(Path(self.url).expanduser().resolve())
            if not self.url.endswith(".db"):
                raise QueryError(
                    f"store: expected http://host:port of a Milvus server, or a file that ends in .db, got {self.url}"
                )
            Path(self.url).parent.mkdir(parents=True, exist_ok=True)
        self._loaded: set[str] = set()
        self._owner = ""  # the address of the process that has the file open; empty if it is this one
        self._reopening = threading.RLock()
        with self._calling("reach it"):
            self._milvus: MilvusClient = MilvusClient(given, timeout=timeout) if self.remote else self._open_file()

    def close(self) -> None:
        """Close the connection or the file. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._milvus.close()
        if self.remote or self._owner:
            return
        _users[self.url] -= 1
        if not _users[self.url]:
            withdraw(self.url)
            # pymilvus 3.0 leaves the file open, and locked, until the process ends
            from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415 - an extra

            server_manager_instance.release_server(self.url)

    def _open_file(self) -> MilvusClient:
        """Open the file, or connect to the process that has it open."""
        from pymilvus import MilvusClient  # noqa: PLC0415 - an extra

        def connect(place: str) -> MilvusClient:
            return MilvusClient(place, timeout=self._timeout)

        def locked(error: Exception) -> bool:
            return _LOCKED in str(getattr(error, "message", error)) and os.path.exists(self.url)

        opened, self._owner = open_or_borrow(self.url, lambda: connect(self.url), connect, locked=locked)
        if not self._owner:
            from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415 - an extra

            _users[self.url] += 1
            publish(self.url, server_manager_instance.start_and_get_uri(self.url) or "")
        return opened

    def _stay_connected(self) -> None:
        """Open the file in this process if the process that had it open has ended."""
        if not self._owner or answers(self._owner):
            return
        with self._reopening:
            if self._owner and not answers(self._owner):
                self._milvus.close()
                self._milvus = self._open_file()
                for name in self._loaded:
                    self._milvus.load_collection(name, timeout=self._timeout)

    def names(self) -> list[str]:
        """Return the names of all collections that tuwen made."""
        spaces = {place: self.found_space(place) for place in self.places()}
        return sorted({collection_of(place, space.fingerprint) for place, space in spaces.items() if space})

    def places(self, collection: str | None = None) -> list[str]:
        """Return the places of all vectors, or of those that may belong to a collection; see `tuwen_search.places`.

        Raises:
            QueryError: Milvus does not accept the name.
            StoreError: see above.
        """
        if collection is not None:
            _check_name(collection)
        with self._calling("list collections"):
            found: list[str] = sorted(self._milvus.list_collections(timeout=self._timeout))
        return [place for place in found if collection is None or is_place_of(place, collection)]

    def create(self, name: str, space: Space) -> None:
        """Create an empty collection.

        Raises:
            QueryError: Milvus does not accept the name.
            StoreError: see above.
        """
        from pymilvus import DataType  # noqa: PLC0415 - an extra

        _check_name(name)
        schema = self._milvus.create_schema(auto_id=False, enable_dynamic_field=False)
        for field, length in TEXTS.items():
            schema.add_field(field, DataType.VARCHAR, max_length=length, is_primary=field == "id")
        for field in NUMBERS:
            schema.add_field(field, DataType.INT64)
        schema.add_field("thumbnail", DataType.VARCHAR, max_length=65_535)
        schema.add_field("metadata", DataType.JSON)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=space.dimension)
        kind = space.index if space.index != "auto" else "hnsw" if self.remote else "flat"
        params = self._milvus.prepare_index_params()
        # the inner product of unit vectors is their cosine
        params.add_index("vector", index_type=kind.upper(), metric_type="IP", params=_INDEXES[kind][0])
        made = replace(space, index=kind)
        properties = {key: str(getattr(made, attribute)) for attribute, key in _CARD.items()}
        with self._calling(f"create {name}"):
            self._milvus.create_collection(
                name,
                schema=schema,
                index_params=params,
                properties=properties,
                consistency_level="Strong",
                timeout=self._timeout,
            )

    def space(self, name: str) -> Space:
        """Return the embedding space and the index of a collection.

        Raises:
            QueryError: Milvus does not accept the name.
            CollectionNotFoundError: the store has no such collection, or tuwen did not make it.
            StoreError: see above.
        """
        found = self.found_space(name)
        if found is None:
            known = ", ".join(self.names()) or "none"
            raise CollectionNotFoundError(
                f"'{name}' is not a collection of tuwen in {self.url}; known collections: {known}"
            )
        return found

    def found_space(self, name: str) -> Space | None:
        """Return the embedding space and the index of a collection; None if it does not exist or is not of tuwen's."""
        found = {"tuwen.generation": "1", **self._properties(name)}
        if _CARD["fingerprint"] not in found:
            return None
        fingerprint, checkpoint, dimension, index, generation = (found[key] for key in _CARD.values())
        return Space(fingerprint, checkpoint, int(dimension), cast("IndexType", index), int(generation))

    def drop(self, name: str) -> None:
        """Remove a collection with all its pictures."""
        with self._calling(f"drop {name}"):
            try:
                self._milvus.drop_collection(name, timeout=self._timeout)
            except self._exception as error:
                if not is_disk_full(error):
                    raise
                # Milvus Lite 3.0 first writes rows that are only in memory. The second call finds none.
                self._milvus.drop_collection(name, timeout=self._timeout)

    def rename(self, name: str, new: str) -> None:
        """Give a collection another name.

        Raises:
            CollectionNotFoundError: the store has no such collection.
            QueryError: the new name is taken, or Milvus does not accept it.
        """
        self.space(name)
        self._check_free(new)
        with self._calling(f"rename {name}"):
            self._milvus.rename_collection(name, new, timeout=self._timeout)
        self._loaded.discard(name)

    def copy(self, name: str, new: str, target: MilvusStore | None = None) -> int:
        """Copy a collection under another name or into another store, and return the number of pictures.

        A copy that fails leaves nothing behind.

        Args:
            target: the other store; None: this one.

        Raises:
            CollectionNotFoundError, QueryError: as `rename`.
            DiskFullError: the disk of the target has too little free space.
        """
        place = target or self
        space = self.space(name)
        place._check_free(new)
        self.load(name)
        place.check_space(self.count(name), space.dimension)
        place.create(new, replace(space, index="auto" if place.remote != self.remote else space.index))
        copied = 0
        try:
            rows = self.every(name, [])
            while ids := [row["id"] for row in islice(rows, _ROWS_AT_ONCE // 4)]:
                pictures, vectors = zip(*self.get(name, ids).values(), strict=True)
                place.put(new, pictures, vectors)
                copied += len(ids)
            place.flush(new)
        except BaseException:
            with contextlib.suppress(StoreError):  # the first error says more
                place.drop(new)
            raise
        return copied

    def check_space(self, pictures: int, dimension: int) -> None:
        """Check that the disk of a store in a file has space for more pictures. A server is not asked.

        Raises:
            DiskFullError: the disk has too little free space.
        """
        if not self.remote:
            needed = pictures * (_VECTORS_KEPT * 4 * dimension + _RECORD_BYTES)
            check_space(Path(self.url), needed, f"a collection with {pictures:,} more pictures")

    def _check_free(self, name: str) -> None:
        if self._properties(name):
            raise QueryError(
                f"{self.url} already has a collection {name}; choose another name, or drop that collection"
            )

    def load(self, name: str) -> None:
        """Load a collection into the store's memory, as a search requires."""
        with self._calling(f"load {name}"):
            self._milvus.load_collection(name, timeout=self._timeout)
        self._loaded.add(name)

    def flush(self, name: str) -> None:
        """Write added pictures to disk and into the index."""
        with self._calling(f"flush {name}"):
            self._milvus.flush(name, timeout=self._timeout)

    def put(self, name: str, pictures: Sequence[Picture], vectors: Sequence[NDArray[np.float32]]) -> None:
        """Add pictures. A picture with a known ID replaces the earlier one."""
        rows = [row_of(picture, vector) for picture, vector in zip(pictures, vectors, strict=True)]
        with self._calling(f"write to {name}"):
            self._milvus.upsert(name, rows, timeout=self._timeout)

    def remove(self, name: str, ids: Sequence[str]) -> None:
        """Remove pictures."""
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            with self._calling(f"clear {name}"):
                part = any_of("id", map(checked_id, ids[start : start + _ROWS_AT_ONCE]))
                self._milvus.delete(name, filter=part, timeout=self._timeout)

    def count(self, name: str, where: str = "") -> int:
        """Return the number of all pictures, or of the pictures that a filter selects.

        Raises:
            QueryError: the filter cannot be read.
            StoreError: see above.
        """
        with self._filtering(where), self._calling(f"count {name}"):
            [row] = self._milvus.query(name, filter=expanded(where), output_fields=["count(*)"], timeout=self._timeout)
        return int(row["count(*)"])

    def sample(self, name: str, count: int, fields: Sequence[str], *, seed: int = 0) -> list[dict[str, Any]]:
        """Return some fields of random pictures.

        IDs are hashes, so the pictures with IDs in a random interval are a random sample.

        Args:
            count: the number of pictures. The sample has a few more or fewer if the collection is larger.
            seed: another seed chooses other pictures.
        """
        total = self.count(name)
        where = ""
        if total > count:
            share = int(count / total * _IDS)
            start = random.Random(seed).randrange(_IDS - share)  # noqa: S311 - a sample is no secret
            bounds = compared("id", ">=", f"{start:032x}"), compared("id", "<", f"{start + share:032x}")
            where = " and ".join(bounds)
        with self._calling(f"read {name}"):
            rows = self._milvus.query(
                name, filter=where, limit=2 * count + 1, output_fields=["id", *fields], timeout=self._timeout
            )
        return [dict(row) for row in rows]

    def browse(self, name: str, *, where: str = "", limit: int, offset: int = 0) -> list[Picture]:
        """Return pictures that a filter selects, in an order that stays the same while the collection does.

        Raises:
            QueryError: the filter cannot be read, or the page ends behind the 16,384th picture.
            StoreError: see above.
        """
        _check_page(limit, offset)
        with self._filtering(where), self._calling(f"read {name}"):
            rows = self._milvus.query(
                name,
                filter=expanded(where),
                limit=limit,
                offset=offset,
                output_fields=["id", *RECORD],
                timeout=self._timeout,
            )
        return [picture_of(row["id"], row) for row in rows]

    def get(self, name: str, ids: Sequence[str]) -> dict[str, tuple[Picture, NDArray[np.float32]]]:
        """Return a mapping from each ID that exists to its picture and vector.

        Raises:
            QueryError: an ID is not 32 hexadecimal digits.
            StoreError: see above.
        """
        wanted = any_of("id", map(checked_id, ids))
        if not ids:
            return {}
        with self._calling(f"read {name}"):
            rows = self._milvus.query(
                name, filter=wanted, output_fields=["id", *RECORD, "vector"], timeout=self._timeout
            )
        return {row["id"]: (picture_of(row["id"], row), vector_of(row)) for row in rows}

    def every(
        self,
        name: str,
        fields: Sequence[str],
        *,
        source: str | None = None,
        other_than: str | None = None,
        where: str = "",
    ) -> Iterator[dict[str, Any]]:
        """Yield some fields of each picture of a collection, of one source, of all other sources, or of a filter."""
        wanted = where
        if source is not None:
            wanted = compared("source_id", "==", short_hash(source))
        elif other_than is not None:
            wanted = compared("source_id", "!=", short_hash(other_than))
        with self._filtering(where), self._calling(f"read {name}"):
            rows = self._milvus.query_iterator(
                name, batch_size=_ROWS_AT_ONCE, filter=wanted, output_fields=["id", *fields], timeout=self._timeout
            )
            try:
                while batch := rows.next():
                    yield from map(dict, batch)
            finally:
                rows.close()

    def nearest(
        self,
        name: str,
        vector: NDArray[np.float32],
        *,
        index: IndexType,
        limit: int,
        offset: int = 0,
        where: str = "",
        min_score: float | None = None,
    ) -> list[tuple[Picture, float, NDArray[np.float32]]]:
        """Return the pictures whose vectors have the largest inner product with the given vector, the best first.

        Args:
            index: the index type of the collection.
            where: a Milvus filter, such as ``width > 1000 and name like "cats/%"``.
            min_score: return only pictures with at least this inner product. None: return all.

        Raises:
            QueryError: the filter cannot be read, or offset + limit is not below 16,384.
            StoreError: see above.
        """
        fields = [*RECORD, "vector"]
        hits = self._search(
            name, vector, index, limit=limit, offset=offset, where=where, least=min_score, fields=fields
        )
        return [
            (picture_of(hit["id"], hit["entity"]), float(hit["distance"]), vector_of(hit["entity"])) for hit in hits
        ]

    def count_nearest(
        self,
        name: str,
        vector: NDArray[np.float32],
        *,
        index: IndexType,
        min_score: float,
        where: str = "",
        limit: int = 1000,
    ) -> int:
        """Return the number of pictures whose inner product with a vector is at least `min_score`, up to a limit.

        Raises:
            QueryError: the filter cannot be read.
            StoreError: see above.
        """
        return len(self._search(name, vector, index, limit=limit, offset=0, where=where, least=min_score, fields=[]))

    def _search(
        self,
        name: str,
        vector: NDArray[np.float32],
        index: IndexType,
        *,
        limit: int,
        offset: int,
        where: str,
        least: float | None,
        fields: list[str],
    ) -> list[dict[str, Any]]:
        _check_page(limit, offset)
        searched: dict[str, float] = dict(_INDEXES[index][1])
        if index == "hnsw":
            searched["ef"] = max(searched["ef"], limit + offset)
        if least is not None:
            searched["radius"] = float(least)
        with self._filtering(where), self._calling(f"search {name}"):
            [hits] = self._milvus.search(
                name,
                [vector.tolist()],
                filter=expanded(where),
                limit=limit,
                search_params={"params": searched, "offset": offset},
                output_fields=fields,
                timeout=self._timeout,
            )
        return list(hits)

    def _properties(self, name: str) -> dict[str, str]:
        _check_name(name)
        try:
            described = self._milvus.describe_collection(name, timeout=self._timeout)
        except self._exception as error:
            if error.code == _NOT_FOUND:
                return {}
            raise self._error(f"describe {name}", error) from error
        properties: dict[str, str] = dict(described.get("properties") or {})
        return properties if _CARD["fingerprint"] in properties else {}

    @contextlib.contextmanager
    def _filtering(self, where: str) -> Iterator[None]:
        """Turn an error of Milvus about the user's filter into a `QueryError`."""
        try:
            yield
        except StoreError as error:
            if where and _about_filter(str(error)):
                raise QueryError(f"invalid filter {where!r}: {error}") from error
            raise

    @contextlib.contextmanager
    def _calling(self, what: str) -> Iterator[None]:
        try:
            self._stay_connected()
            yield
        except self._exception as error:
            raise self._error(what, error) from error

    def _error(self, what: str, error: Any) -> SearchError:
        message = " ".join(str(error.message).split())
        if _LOCKED in message:
            return StoreError(
                f"cannot open '{self.url}': another process holds it, or it is not a Milvus Lite file; "
                "for several processes, run a Milvus server and pass its http:// address"
            )
        if error.code == _NOT_FOUND:
            return CollectionNotFoundError(f"cannot {what}: {message}")
        if is_disk_full(error):
            return StoreError(f"cannot {what} in {self.url}: {os_reason(error)}")
        return StoreError(f"cannot {what} in {self.url}: {message}")


def _check_page(limit: int, offset: int) -> None:
    if limit < 1 or offset < 0 or limit + offset > _FARTHEST:
        raise QueryError(f"expected a limit of at least 1, and offset + limit below {_FARTHEST:,}")


def _check_name(name: str) -> None:
    """Check a name by Milvus's rules. Milvus Lite and a Milvus server report an invalid name differently."""
    if not name.isidentifier() or not name.isascii():
        raise QueryError(
            f"expected a collection name of letters, digits and _ that does not begin with a digit, got {name!r}"
        )


def _without_secrets(url: str) -> str:
    """Return an address without its password, so that it may be shown."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else url


def _about_filter(message: str) -> bool:
    return any(word in message for word in ("expression", "parse", "field", "filter", "at column"))

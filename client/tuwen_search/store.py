"""The store of vectors and records: a Milvus Lite file, a Milvus server or a cluster, with the same calls."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

from tuwen_files.disk_space import check_space, is_disk_full
from tuwen_search.connection import NOT_FOUND, STORE, default_store
from tuwen_search.errors import CollectionNotFoundError, QueryError, StoreError
from tuwen_search.picture_rows import ROWS_AT_ONCE, PictureRows
from tuwen_search.places import collection_of, is_place_of
from tuwen_search.rows import NUMBERS, TEXTS
from tuwen_search.spaces import INDEXES, IndexType, Space

__all__ = ["STORE", "IndexType", "MilvusStore", "Space", "default_store"]

_VECTORS_KEPT = 3  # a vector is stored in the write-ahead log, in the data and in the index
_RECORD_BYTES = 1024  # paths, metadata and a small thumbnail; thumbnails of photographs are larger
_CARD = {
    attribute: f"tuwen.{attribute}" for attribute in ("fingerprint", "checkpoint", "dimension", "index", "generation")
}


class MilvusStore(PictureRows):
    """The collections of one Milvus server or file.

    Attributes:
        url: the address of the server, without the password; or the absolute path of the file, with links resolved.
        remote: whether the store is a server.

    Args:
        url: the address of a server or cluster, such as ``http://host:19530``, with ``user:password@`` if the server
            requires it; or a file that ends in ``.db``.
        timeout: the maximum time in seconds for each call.

    Raises:
        StoreError: the server does not respond, or another process has the file open.
        QueryError: the URL is neither an address nor a file that ends in ``.db``.
        MissingExtraError: pymilvus is not installed.
    """

    def names(self) -> list[str]:
        """Return the names of all collections that tuwen made."""
        spaces = {place: self.found_space(place) for place in self.places()}
        return sorted({collection_of(place, space.fingerprint) for place, space in spaces.items() if space})

    def places(self, collection: str | None = None) -> list[str]:
        """Return the names of all Milvus collections, or of the Milvus collections that a tuwen collection may own.

        Args:
            collection: the name of a tuwen collection, which may own several Milvus collections
                (`tuwen_search.places`); None: all Milvus collections.

        Raises:
            QueryError: Milvus does not accept the name.
            StoreError: the store does not respond, or failed.
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
            StoreError: the store does not respond, or failed.
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
        params.add_index("vector", index_type=kind.upper(), metric_type="IP", params=INDEXES[kind][0])
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
            StoreError: the store does not respond, or failed.
        """
        found = self.found_space(name)
        if found is None:
            known = ", ".join(self.names()) or "none"
            raise CollectionNotFoundError(
                f"'{name}' is not a collection of tuwen in {self.url}; known collections: {known}"
            )
        return found

    def found_space(self, name: str) -> Space | None:
        """Return the embedding space and the index of a collection; None if tuwen made no such collection."""
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
                # Milvus Lite 3.0 first writes the rows in memory to the full disk. A second call has no rows to write.
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
            target: the store of the copy; None: this store.

        Raises:
            CollectionNotFoundError: the store has no such collection.
            QueryError: the new name is taken, or Milvus does not accept it.
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
            while ids := [row["id"] for row in islice(rows, ROWS_AT_ONCE // 4)]:
                pictures, vectors = zip(*self.get(name, ids).values(), strict=True)
                place.put(new, pictures, vectors)
                copied += len(ids)
            place.flush(new)
        except BaseException:
            with contextlib.suppress(StoreError):  # the earlier error says more than an error of this call
                place.drop(new)
            raise
        return copied

    def check_space(self, pictures: int, dimension: int) -> None:
        """Check that the disk of a store in a file has space for more pictures. For a server, do nothing.

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

    def _properties(self, name: str) -> dict[str, str]:
        _check_name(name)
        try:
            described = self._milvus.describe_collection(name, timeout=self._timeout)
        except self._exception as error:
            if error.code == NOT_FOUND:
                return {}
            raise self._error(f"describe {name}", error) from error
        properties: dict[str, str] = dict(described.get("properties") or {})
        return properties if _CARD["fingerprint"] in properties else {}


def _check_name(name: str) -> None:
    """Check a name by Milvus's rules, because Milvus Lite and a Milvus server report an invalid name differently."""
    if not name.isidentifier() or not name.isascii():
        raise QueryError(
            f"expected a collection name of letters, digits and _ that does not begin with a digit, got {name!r}"
        )

"""The pictures of a collection, read again from their sources to embed them with another model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuwen import MissingExtraError
from tuwen_files.file_versions import content_checksum, file_stamp, read_regular_file
from tuwen_search.entries import Found
from tuwen_search.errors import SourceError
from tuwen_search.indexing import Failure
from tuwen_search.records import Picture, describe, plain_metadata
from tuwen_search.sources import open_source

__all__ = ["Original", "Wanted", "originals_of", "path_of"]


@dataclass(frozen=True)
class Wanted:
    """A picture to read again.

    Attributes:
        id: the ID of the picture in the collection.
        source, name: the picture's source, and its name in this source.
        sha256: the checksum of the picture's bytes when it was indexed.
    """

    id: str
    source: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Original:
    """The bytes of a picture of a collection, read again.

    Attributes:
        wanted: the picture that was to be read.
        data: the present bytes of the picture.
        sha256: the checksum of the present bytes.
        changed: the new record if the bytes have changed since the picture was indexed; None: the bytes are unchanged.
    """

    wanted: Wanted
    data: bytes
    sha256: str
    changed: Picture | None


def path_of(wanted: Wanted) -> str:
    """Return a picture's path for a report of failures: the source's path, followed by the picture's name."""
    return str(Path(wanted.source, wanted.name)).encode("utf-8", "backslashreplace").decode()


def _lost(wanted: Wanted, why: str) -> tuple[Wanted, Failure]:
    return wanted, Failure(path_of(wanted), "lost", why)


def originals_of(source: str, wanted: Iterable[Wanted]) -> Iterator[Original | tuple[Wanted, Failure]]:
    """Yield the pictures of one source with their bytes, or with the reason why a picture cannot be read.

    A picture that is a file is read from its path, even if the list that named it is gone. Pictures in archives and
    tables are read in the order of their source.
    """
    if os.path.isdir(source):
        for one in wanted:
            yield _of_file(one, Path(source, one.name))
        return
    inside: dict[str, Wanted] = {}
    for one in wanted:
        if os.path.isabs(one.name):
            yield _of_file(one, Path(one.name))
        else:
            inside[one.name] = one
    if inside:
        yield from _inside(source, inside)


def _of_file(wanted: Wanted, path: Path) -> Original | tuple[Wanted, Failure]:
    try:
        data, stamp = read_regular_file(path), file_stamp(path)
    except OSError as error:
        return _lost(wanted, error.strerror or str(error))
    return _original(wanted, data, stamp, {})


def _inside(source: str, wanted: dict[str, Wanted]) -> Iterator[Original | tuple[Wanted, Failure]]:
    """Yield the pictures of one source whose bytes lie in an archive or in a table."""
    why = "the source has no picture of this name any more"
    if not os.path.isabs(source):
        why = "the source was made by a program, and only that program can read it"
    else:
        try:
            for entry in open_source(Path(source)).pictures():
                if not isinstance(entry, Found) or entry.name not in wanted:
                    continue
                one = wanted.pop(entry.name)
                try:
                    data = entry.read()
                except OSError as error:
                    yield _lost(one, error.strerror or str(error))
                else:
                    yield _original(one, data, entry.version, entry.metadata)
                if not wanted:
                    return
        except (SourceError, MissingExtraError, OSError) as error:
            why = str(error)
    for one in wanted.values():
        yield _lost(one, why)


def _original(wanted: Wanted, data: bytes, version: str, metadata: Mapping[str, object]) -> Original:
    checksum = content_checksum(data)
    if checksum == wanted.sha256:
        return Original(wanted, data, checksum, None)
    changed = describe(data, source=wanted.source, name=wanted.name, version=version, metadata=plain_metadata(metadata))
    return Original(wanted, data, checksum, changed)

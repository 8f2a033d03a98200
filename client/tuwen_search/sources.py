"""Where pictures come from: a folder, a list of files, a Parquet file, or tar archives as webdataset writes them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuwen import InvalidArgumentError, MissingExtraError
from tuwen._folders import IMAGE_SUFFIXES
from tuwen.text_files import read_lines
from tuwen_search.errors import SourceError

__all__ = ["Found", "Source", "open_source"]

_BATCH_ROWS = 64
_IMAGE_COLUMNS = ("image", "jpg", "png", "bytes", "data")
_KEY_COLUMNS = ("key", "id", "name", "path", "filename", "url")


@dataclass(frozen=True)
class Found:
    """A picture that has been found and not been read.

    Attributes:
        name: its path within the source, or its key there: at most 4,096 bytes in UTF-8.
        version: changes whenever the picture may have; at most 64 bytes.
        read: its bytes, before the next one is asked for; raises OSError.
        metadata: what else the source tells; at most 64 KiB as JSON.
    """

    name: str
    version: str
    read: Callable[[], bytes]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Pictures in a stable order.

    Attributes:
        name: the absolute path that they are from.
        pictures: one after the other, from the beginning with each call.
        quick: they are found without being read, so that they may be counted first.
    """

    name: str
    pictures: Callable[[], Iterator[Found]]
    quick: bool = False


def open_source(path: Path) -> Source:
    """What a path holds: a folder, a ``.tar``, a ``.parquet``, or a text file with a path in each line.

    Raises:
        SourceError: there is nothing, or nothing that can be read.
    """
    path = path.expanduser().absolute()
    if path.is_dir():
        return Source(str(path), lambda: _folder(path), quick=True)
    if not path.is_file():
        raise SourceError(f"there is no {path}")
    if path.suffix == ".tar":
        return Source(str(path), lambda: _archive(path))
    if path.suffix == ".parquet":
        return Source(str(path), lambda: _table(path))
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SourceError(f"{path} is a picture; give its folder, or a text file that lists pictures")
    return Source(str(path), lambda: _listed(path), quick=True)


def _folder(root: Path) -> Iterator[Found]:
    """Image files at any depth; links to folders are not followed, so that there are no circles and no way out."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            path = Path(folder, file)
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                yield _file(path, path.relative_to(root).as_posix())


def _listed(path: Path) -> Iterator[Found]:
    try:
        lines = read_lines(path)
    except InvalidArgumentError as error:
        raise SourceError(f"{error}; a list has the path of a picture in each line") from error
    for line in dict.fromkeys(lines):
        yield _file(path.parent / line, line)


def _file(path: Path, name: str) -> Found:
    try:
        status = path.stat()
        version = f"{status.st_size}-{status.st_mtime_ns}"
    except OSError:
        version = "missing"  # which reading will tell
    return Found(name, version, path.read_bytes)


def _archive(path: Path) -> Iterator[Found]:
    """Members that are pictures, in the order in which they were written."""
    with _opened(path) as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                file = archive.extractfile(member)
                yield _held(member.name, file.read() if file else None, {})


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path)
    except (OSError, tarfile.TarError) as error:
        raise SourceError(f"{path} is no tar archive: {error}") from error


def _table(path: Path) -> Iterator[Found]:
    """Rows whose image is bytes, or a struct with ``bytes`` as Hugging Face's datasets write it."""
    try:
        import pyarrow as arrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f"Parquet needs an extra ({error}): pip install 'tuwen[parquet]'") from error
    try:
        table = parquet.ParquetFile(path)
    except (OSError, arrow.ArrowException) as error:
        raise SourceError(f"{path} is no Parquet file: {error}") from error
    columns = table.schema_arrow.names
    image = next((name for name in _IMAGE_COLUMNS if name in columns), None)
    if image is None:
        raise SourceError(f"{path} has no column of images ({', '.join(_IMAGE_COLUMNS)}): {', '.join(columns)}")
    key = next((name for name in _KEY_COLUMNS if name in columns and name != image), None)
    number = 0
    for batch in table.iter_batches(_BATCH_ROWS):
        for row in batch.to_pylist():
            value = row.pop(image)
            data = value.get("bytes") if isinstance(value, dict) else value
            yield _held(str(row[key]) if key else str(number), data, _plain(row))
            number += 1


def _held(name: str, data: object, metadata: Mapping[str, Any]) -> Found:
    """A picture that had to be read to be found; its version is a hash of all there is."""
    content = data if isinstance(data, bytes) else b""

    def read() -> bytes:
        if not isinstance(data, bytes):
            raise OSError(f"there are no bytes, but {type(data).__name__}")
        return data

    told = json.dumps(metadata, sort_keys=True).encode()
    return Found(name, hashlib.sha256(content + told).hexdigest(), read, metadata)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a filter can ask for."""
    return {
        re.sub(r"\W", "_", name): value for name, value in row.items() if isinstance(value, (str, int, float, bool))
    }

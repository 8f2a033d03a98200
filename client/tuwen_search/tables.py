"""Pictures in the rows of Parquet files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuwen import MissingExtraError
from tuwen_search.entries import Entry, Found, Ignored, Unseen, filterable, held, one_line
from tuwen_search.errors import SourceError
from tuwen_search.files import found_file
from tuwen_search.text_tables import PATH_COLUMNS

__all__ = ["pictures_of_table"]

_BATCH_ROWS = 64
_IMAGE_COLUMNS = ("image", "jpg", "png", "bytes", "data")
_KEY_COLUMNS = ("key", "id", "name", "path", "filename", "url")


def pictures_of_table(path: Path) -> Iterator[Entry]:
    """Yield the pictures of the rows, with the other columns as metadata.

    A row's image is bytes, a path, or a struct of ``bytes`` and ``path``, as Hugging Face's datasets write it. A table
    without a column of images may have a column of paths. Relative paths begin at the folder of the table. If a row has
    a path and no bytes, the picture's name is this path, and later rows with the same path are ignored. If the
    table is damaged, the last entry is an `Unseen`, which stands for the unreadable rest.

    Raises:
        SourceError: the file is not a Parquet file, or has no column of images or paths.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f"reading Parquet needs an extra ({error}): pip install 'tuwen[parquet]'") from error
    damage = (OSError, ValueError, arrow.ArrowException)
    try:
        table = parquet.ParquetFile(path)
        columns = table.schema_arrow.names
    except damage as error:
        raise SourceError(f"cannot read '{path}': not a Parquet file, or damaged ({one_line(error)})") from error
    with table:
        image = next((name for name in (*_IMAGE_COLUMNS, *PATH_COLUMNS) if name in columns), None)
        if image is None:
            raise SourceError(
                f"'{path}': expected a column of images ({', '.join(_IMAGE_COLUMNS)}) or of paths "
                f"({', '.join(PATH_COLUMNS)}), got only the columns {', '.join(columns)}"
            )
        key = next((name for name in _KEY_COLUMNS if name in columns and name != image), None)
        number = 0
        paths: set[str] = set()
        batches = table.iter_batches(_BATCH_ROWS)
        while True:
            try:
                batch = next(batches, None)
                rows = batch.to_pylist() if batch is not None else []
            except damage as error:
                message = f"'{path}' is damaged ({one_line(error)}); its rows from {number:,} on could not be read"
                yield Unseen(path.name, "damaged", message)
                return
            if batch is None:
                return
            for row in rows:
                picture = _row(row, image, key, number, path.parent)
                number += 1
                if os.path.isabs(picture.name) and picture.name in paths:
                    yield Ignored("further rows of the same picture")
                    continue
                paths.add(picture.name)
                yield picture


def _row(row: dict[str, Any], image: str, key: str | None, number: int, folder: Path) -> Found:
    """Return the picture of one row. If the row has both bytes and a path, the bytes are used, as in Hugging Face."""
    value = row.pop(image)
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(data, str) or image in PATH_COLUMNS:
        data, path = None, data
    if data is None and path:
        picture = folder / (os.fsdecode(path) if isinstance(path, bytes) else str(path))
        return found_file(picture, str(picture), filterable(row))
    return held(_name(row.get(key)) or str(number) if key else str(number), data, filterable(row))


def _name(value: Any) -> str:
    """Return the value of a key column as text; empty for null and NaN."""
    if value is None or value != value:  # noqa: PLR0124 - only NaN differs from itself
        return ""
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)

"""Pictures in the rows of Parquet files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuwen import MissingExtraError
from tuwen_search.entries import Entry, Unseen, held, one_line
from tuwen_search.errors import SourceError

__all__ = ["pictures_of_table"]

_BATCH_ROWS = 64
_IMAGE_COLUMNS = ("image", "jpg", "png", "bytes", "data")
_KEY_COLUMNS = ("key", "id", "name", "path", "filename", "url")


def pictures_of_table(path: Path) -> Iterator[Entry]:
    """Yield the rows whose image is bytes, or a struct with ``bytes`` as Hugging Face's datasets write it.

    At a damaged place the table ends with an `Unseen`.

    Raises:
        SourceError: the file is not a Parquet file, or has no column of images.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(f"Parquet needs an extra ({error}): pip install 'tuwen[parquet]'") from error
    damage = (OSError, ValueError, arrow.ArrowException)
    try:
        table = parquet.ParquetFile(path)
        columns = table.schema_arrow.names
    except damage as error:
        raise SourceError(f"cannot read '{path}': not a Parquet file, or damaged ({one_line(error)})") from error
    with table:
        image = next((name for name in _IMAGE_COLUMNS if name in columns), None)
        if image is None:
            raise SourceError(
                f"'{path}' has no column of images: expected one of {', '.join(_IMAGE_COLUMNS)}, "
                f"got {', '.join(columns)}"
            )
        key = next((name for name in _KEY_COLUMNS if name in columns and name != image), None)
        number = 0
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
                value = row.pop(image)
                data = value.get("bytes") if isinstance(value, dict) else value
                yield held(str(row[key]) if key else str(number), data, _plain(row))
                number += 1


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that a filter can ask for."""
    return {
        re.sub(r"\W", "_", name): value for name, value in row.items() if isinstance(value, (str, int, float, bool))
    }

"""Pictures in the rows of CSV, TSV and JSON Lines files: a column of paths, and metadata in the other columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuwen import InvalidArgumentError
from tuwen_files.text_files import numbered_lines
from tuwen_search.entries import Entry, Ignored, Unseen, filterable
from tuwen_search.errors import SourceError
from tuwen_search.files import found_file

__all__ = ["PATH_COLUMNS", "is_text_table", "looks_like_a_table", "pictures_of_text_table"]

PATH_COLUMNS = ("image_path", "file_path", "filepath", "path", "file_name", "filename")
_COLUMNS = ("image", *PATH_COLUMNS)
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")  # without leading zeros, because 007 may be an article number
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_TRUTH = {"true": True, "false": False}


def is_text_table(path: Path) -> bool:
    """Return whether a file is named like a table of text: ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson``."""
    return path.suffix.lower() in (*_DELIMITERS, *_JSON)


def looks_like_a_table(line: str) -> bool:
    """Return whether a line is the header of a table with a column of paths, or begins a JSON object."""
    names = {name.strip().strip('"').lower() for name in re.split(r"[,;\t]", line)}
    return line.startswith("{") or (len(names) > 1 and not names.isdisjoint(_COLUMNS))


def pictures_of_text_table(path: Path) -> Iterator[Entry]:
    """Yield the pictures of the rows, with the other columns as metadata.

    A CSV column whose values all look like numbers becomes numbers; a column of ``true`` and ``false`` becomes truth
    values; any other column becomes texts. Empty values are left out. Relative paths begin at the folder of the table.
    If several rows have the same picture, the first one is used.

    Raises:
        SourceError: the file cannot be read, is not a table, or has no column of paths.
    """
    rows = _json_rows(path) if path.suffix.lower() in _JSON else _csv_rows(path)
    seen: set[str] = set()
    for number, row in rows:
        if row is None:
            yield Unseen(path.name, "damaged", f"'{path}', line {number}: expected a line with one JSON object")
            continue
        column = next((name for name in _COLUMNS if name in row), None)
        if column is None:
            raise SourceError(_without_paths(path, list(row), number))
        value = row.pop(column)
        if not isinstance(value, str) or not value.strip():
            yield Ignored("rows without a path")
            continue
        picture = path.parent / value.strip()
        if str(picture) in seen:
            yield Ignored("further rows of the same picture")
            continue
        seen.add(str(picture))
        yield found_file(picture, str(picture), filterable(row))


def _without_paths(path: Path, columns: list[str], number: int) -> str:
    known = ", ".join(_COLUMNS)
    return (
        f"'{path}', line {number}, has no column of paths: expected one of {known}; "
        f"got {', '.join(columns) or 'none'}. Name the column of paths in the first line, "
        "or pass a .txt file with one path in each line"
    )


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    kinds = _kinds(path)
    for number, row in _records(path):
        values = {name: _typed(text, kinds[name]) for name, text in row.items() if text.strip()}
        yield number, {column: "" for column in _COLUMNS if column in row} | values


def _kinds(path: Path) -> dict[str, str]:
    """Return the type that all values of a column have, by column: ``integer``, ``number``, ``truth`` or ``text``."""
    kinds: dict[str, str] = {}
    for _, row in _records(path):
        for name, text in row.items():
            if value := text.strip():
                kinds[name] = "text" if name in _COLUMNS else _wider(kinds.get(name, ""), value)
    return kinds


def _wider(kind: str, value: str) -> str:
    """Return the type of a column after one more value. Before the first value, the type is empty."""
    if kind in ("", "truth") and value.lower() in _TRUTH:
        return "truth"
    if kind in ("", "integer") and _INTEGER.fullmatch(value):
        return "integer"
    return "number" if kind in ("", "integer", "number") and _NUMBER.fullmatch(value) else "text"


def _typed(text: str, kind: str) -> Any:
    value = text.strip()
    if kind == "integer":
        return int(value)
    if kind == "number":
        return float(value)
    return _TRUTH[value.lower()] if kind == "truth" else value


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the cells of each row that is not blank. The first line names the columns."""
    try:
        reader = csv.reader(
            (f"{line}\n" for _, line in numbered_lines(path)), delimiter=_DELIMITERS[path.suffix.lower()]
        )
        names = [name.strip() for name in next(reader, [])]
        if not set(names) & set(_COLUMNS):
            raise SourceError(_without_paths(path, names, 1))
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, dict(zip(names, cells, strict=False))
    except (InvalidArgumentError, csv.Error) as error:
        raise SourceError(f"cannot read '{path}' as a table: {error}") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    try:
        for number, line in numbered_lines(path):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                yield number, row if isinstance(row, dict) else None
    except InvalidArgumentError as error:
        raise SourceError(f"cannot read '{path}' as a table: {error}") from error

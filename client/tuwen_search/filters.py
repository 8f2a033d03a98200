"""Milvus filters. Only this module quotes the values in filters, so that no value can change a filter's meaning.

`literal` is the only function that puts quotes around a text. A user's filter (``where``) is an expression already:
`expanded` writes out the names of metadata and leaves the rest unchanged. A user's filter is never part of another
filter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from tuwen_search.errors import QueryError

__all__ = ["any_of", "checked_id", "compared", "expanded", "literal", "metadata_names"]

_ID = re.compile("[0-9a-f]{32}")
_FIELD = re.compile("[A-Za-z_][A-Za-z0-9_]*")
# The escapes that both a Milvus server and Milvus Lite understand. All other characters need no escape.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})

_WORDS = re.compile(
    r"""(?P<skip>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\d[\w.]*)|(?P<name>[^\W\d]\w*)(?P<call>\s*[(\[])?"""
)
_FIELDS = frozenset(
    ["id", "source", "source_id", "name", "version", "sha256", "file_size", "width", "height", "metadata"]
)
_OPERATORS = frozenset({"and", "or", "not", "in", "like", "is", "null", "true", "false", "exists"})


def expanded(where: str) -> str:
    """Return a user's filter with the names of metadata written out: ``price < 9`` is ``metadata["price"] < 9``."""

    return _WORDS.sub(lambda found: f"metadata[{literal(found['name'])}]" if _of_metadata(found) else found[0], where)


def metadata_names(where: str) -> list[str]:
    """Return the names of metadata that a user's filter contains without brackets, such as ``price``."""
    return [found["name"] for found in _WORDS.finditer(where) if _of_metadata(found)]


def _of_metadata(found: re.Match[str]) -> bool:
    name = found["name"]
    return bool(name) and not (name in _FIELDS or name.lower() in _OPERATORS or (found["call"] or "").strip())


def literal(text: str) -> str:
    """Return a text as a string literal of Milvus's filters, in double quotes.

    Raises:
        QueryError: the text cannot be encoded as UTF-8, the encoding of filters.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise QueryError(f"filter: expected a text that UTF-8 can encode, got {text!r} ({error.reason})") from error
    return f'"{text.translate(_ESCAPES)}"'


def compared(field: str, operator: Literal["==", "!=", "<", ">="], value: str) -> str:
    """Return a filter that compares a field with a text."""
    return f"{_checked_field(field)} {operator} {literal(value)}"


def any_of(field: str, values: Iterable[str]) -> str:
    """Return a filter for the rows whose field equals one of the texts."""
    return f"{_checked_field(field)} in [{', '.join(map(literal, values))}]"


def checked_id(picture_id: object) -> str:
    """Check that a picture's ID is well-formed, and return it.

    Raises:
        QueryError: the ID is not a string of 32 lower-case hexadecimal digits.
    """
    if not isinstance(picture_id, str) or not _ID.fullmatch(picture_id):
        raise QueryError(f"expected a picture's ID of 32 hexadecimal digits (0-9, a-f), got {str(picture_id)[:80]!r}")
    return picture_id


def _checked_field(field: str) -> str:
    if not _FIELD.fullmatch(field):
        raise QueryError(f"expected a field's name of letters, digits and _, got {field!r}")
    return field

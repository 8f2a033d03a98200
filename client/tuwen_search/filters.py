"""Milvus filters. Every value that goes into one is written here, so that no value can become part of the expression.

Only `literal` puts quotes around a text. The filter that a user writes (``where``) is an expression and is passed on
unchanged; it never becomes part of another filter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from tuwen_search.errors import QueryError

__all__ = ["any_of", "checked_id", "compared", "literal"]

_ID = re.compile("[0-9a-f]{32}")
_FIELD = re.compile("[A-Za-z_][A-Za-z0-9_]*")
# The escapes that a Milvus server and Milvus Lite both know. A text may hold all other characters as they are.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def literal(text: str) -> str:
    """Return a text as a string literal of Milvus's filters, in double quotes.

    Raises:
        QueryError: the text cannot be encoded as UTF-8, in which filters are sent.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise QueryError(f"a filter is UTF-8, and {text!r} cannot be encoded: {error.reason}") from error
    return f'"{text.translate(_ESCAPES)}"'


def compared(field: str, operator: Literal["==", "!="], value: str) -> str:
    """Return the filter that compares a field with a text."""
    return f"{_checked_field(field)} {operator} {literal(value)}"


def any_of(field: str, values: Iterable[str]) -> str:
    """Return the filter for the rows whose field is one of some texts."""
    return f"{_checked_field(field)} in [{', '.join(map(literal, values))}]"


def checked_id(picture_id: object) -> str:
    """Return the ID of a picture if it can be one.

    Raises:
        QueryError: it is not a string of 32 lower-case hexadecimal digits.
    """
    if not isinstance(picture_id, str) or not _ID.fullmatch(picture_id):
        raise QueryError(f"expected a picture's ID of 32 hexadecimal digits (0-9, a-f), got {str(picture_id)[:80]!r}")
    return picture_id


def _checked_field(field: str) -> str:
    if not _FIELD.fullmatch(field):
        raise QueryError(f"expected a field's name of letters, digits and _, got {field!r}")
    return field

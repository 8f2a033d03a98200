"""The rows of a retrieval split's texts, validated field by field."""

from __future__ import annotations

import json
from typing import Any

from tuwen import InvalidArgumentError

__all__ = ["integer", "text_record"]


def text_record(line: str, place: str) -> dict[str, Any]:
    """Return the validated record of a text: ``text_id`` (int), ``text`` (str) and ``image_ids`` (list of int).

    Numbers may be written as strings, as spreadsheets and databases export them.

    Raises:
        InvalidArgumentError: a field is wrong. The message names the line, the field and the expected type.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{place}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise InvalidArgumentError(f"{place}: expected an object with text_id and text, got {type(record).__name__}")
    text = record.get("text")
    if not isinstance(text, str):
        raise InvalidArgumentError(f"{place}, field 'text': expected a string, got {json.dumps(text)}")
    image_ids = record.get("image_ids")
    if image_ids is not None and not isinstance(image_ids, list):
        raise InvalidArgumentError(f"{place}, field 'image_ids': expected a list, got {json.dumps(image_ids)}")
    return {
        "text_id": integer(record.get("text_id"), f"{place}, field 'text_id'"),
        "text": text,
        "image_ids": [integer(value, f"{place}, field 'image_ids'") for value in image_ids or []],
    }


def integer(value: object, place: str) -> int:
    """Return an integer that JSON holds as a number or as a string.

    Raises:
        InvalidArgumentError: the value is not an integer. The message names the place.
    """
    if isinstance(value, str) and value.strip().lstrip("-").isdecimal():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgumentError(f"{place}: expected an integer, got {json.dumps(value)}")
    return value

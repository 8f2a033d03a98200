"""Pictures as rows of a Milvus collection: the fields and their maximum sizes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen_search.records import Picture, short_hash

__all__ = ["NUMBERS", "RECORD", "TEXTS", "picture_of", "row_of", "vector_of", "why_not_kept"]

_LONGEST_NAME = 4096
_LARGEST_JSON = 65_536  # Milvus's limit for a JSON field
TEXTS = {"id": 32, "source": _LONGEST_NAME, "source_id": 32, "name": _LONGEST_NAME, "version": 64, "sha256": 64}
NUMBERS = ("file_size", "width", "height")
RECORD = ("source", "name", "version", "sha256", *NUMBERS, "thumbnail", "metadata")


def why_not_kept(metadata: Mapping[str, Any], **texts: str) -> str:
    """Return the reason why Milvus cannot store some fields of a picture; empty if Milvus can store all of them.

    Args:
        metadata: the metadata of the picture.
        texts: the values of other fields, by name.
    """
    for field, text in texts.items():
        try:
            size = len(text.encode("utf-8"))
        except UnicodeEncodeError:
            return f"{_owned(field)} is not UTF-8"
        if size > TEXTS[field]:
            return f"{_owned(field)} has {size:,} bytes; the maximum is {TEXTS[field]:,}"
    size = len(json.dumps(metadata, ensure_ascii=False, default=str).encode("utf-8", "replace"))
    return f"{_owned('metadata')} has {size:,} bytes; the maximum is {_LARGEST_JSON:,}" if size > _LARGEST_JSON else ""


def _owned(field: str) -> str:
    return "the source's path" if field == "source" else f"the picture's {field}"


def row_of(picture: Picture, vector: NDArray[np.float32]) -> dict[str, Any]:
    """Return the row that holds a picture and its vector."""
    row = {field: getattr(picture, field) for field in (*TEXTS, *NUMBERS) if field != "source_id"}
    return {
        **row,
        "source_id": short_hash(picture.source),
        "thumbnail": base64.b64encode(picture.thumbnail).decode(),
        "metadata": dict(picture.metadata),
        "vector": vector.tolist(),
    }


def picture_of(key: str, row: Mapping[str, Any]) -> Picture:
    """Return the picture of a row."""
    fields = {field: row[field] for field in RECORD if field != "thumbnail"}
    return Picture(id=key, thumbnail=base64.b64decode(row["thumbnail"]), **fields)


def vector_of(row: Mapping[str, Any]) -> NDArray[np.float32]:
    """Return the vector of a row, float32 (D,)."""
    return np.asarray(row["vector"], np.float32)

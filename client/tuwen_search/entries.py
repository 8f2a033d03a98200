"""The entries of a source: pictures, parts that could not be read, and files that are not pictures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Entry", "Found", "Ignored", "NoBytesError", "Unseen", "filterable", "held", "one_line"]


class NoBytesError(OSError):
    """An entry of a table or archive has no bytes for its picture."""


@dataclass(frozen=True)
class Found:
    """A picture that was found but not read yet.

    Attributes:
        name: the picture's name in the source, at most 4,096 bytes in UTF-8: the path within a folder or archive, the
            absolute path in a list of files, or the key in a table.
        version: a text of at most 64 bytes that changes whenever the picture may have changed.
        read: a function that returns the bytes of the picture, or raises OSError. Call the function before the next
            picture is taken from the source.
        metadata: all other values that the source has for the picture; at most 64 KiB as JSON.
        content_version: the first part of `version`, which changes only when the picture's bytes change. If the
            collection has this content version, the picture is not read, and only its metadata is updated. Empty: the
            picture is always read.
    """

    name: str
    version: str
    read: Callable[[], bytes]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    content_version: str = ""


@dataclass(frozen=True)
class Unseen:
    """A part of a source that could not be read. Its pictures stay in the collection.

    Attributes:
        name: a name of the part for people: a subfolder, a file or an archive.
        reason: one word for programs: ``unreadable`` or ``damaged``.
        message: one line for people: what failed, where and why.
        prefix: the beginning of the names of all pictures that may be in this part; empty: any picture may be in it.
    """

    name: str
    reason: str
    message: str
    prefix: str = ""

    def may_hold(self, name: str) -> bool:
        """Return whether a picture of this name may be in the part."""
        return name.startswith(self.prefix)


@dataclass(frozen=True)
class Ignored:
    """Files of a source that are not pictures.

    Attributes:
        kind: the suffix of the files, such as ``.txt``, or another word for their kind.
        count: the number of files.
        names: the names of the files within the source, as far as the files have names.
    """

    kind: str
    count: int = 1
    names: tuple[str, ...] = ()


Entry: TypeAlias = "Found | Unseen | Ignored"


def held(name: str, data: object, metadata: Mapping[str, Any]) -> Found:
    """Return a picture whose bytes are in memory already. The version is a hash of the bytes and the metadata."""
    content = data if isinstance(data, bytes) else b""

    def read() -> bytes:
        if not isinstance(data, bytes):
            raise NoBytesError(
                f"expected the bytes of a picture, got {'none' if data is None else type(data).__name__}"
            )
        return data

    told = json.dumps(metadata, sort_keys=True, default=str, skipkeys=True).encode()
    return Found(name, hashlib.sha256(content + told).hexdigest(), read, metadata)


def filterable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that filters can use: texts, numbers and truth values, with names that filters accept."""
    return {
        re.sub(r"\W", "_", name): value for name, value in values.items() if isinstance(value, (str, int, float, bool))
    }


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, or the error's type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__

"""The rule for changed files: if a file's size or time differs, the file is read, and its checksum decides."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

__all__ = ["FileVersion", "content_checksum", "file_stamp", "kind_of_node", "read_regular_file", "same_stamp"]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

FileVersion = str
"""The version of a file: its size and modification time, a colon, and the checksum of its content.

An example is ``12345-1700000000000000000:9f86d081…``.
"""


def file_stamp(path: Path) -> str:
    """Return the size in bytes and the modification time in nanoseconds of a file as text, joined by a dash.

    Raises:
        OSError: the file cannot be examined.
    """
    try:
        status = path.stat()
    except ValueError as error:  # the path contains a NUL
        raise OSError(str(error)) from error
    return f"{status.st_size}-{status.st_mtime_ns}"


def content_checksum(data: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def same_stamp(version: FileVersion, stamp: str) -> bool:
    """Return whether a version has the size and time of a stamp from `file_stamp`. If true, the file is unchanged."""
    return bool(stamp) and version.partition(":")[0] == stamp


def kind_of_node(path: Path) -> str:
    """Return words for the kind of a path, such as ``a folder`` or ``a FIFO``. The path is not a regular file."""
    return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "something else")


def read_regular_file(path: Path) -> bytes:
    """Return the content of a regular file. Any other path is rejected, because reading a FIFO could block for ever.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:
        raise OSError(str(error)) from error
    if not stat.S_ISREG(mode):
        raise OSError(f"expected a regular file, got {_KINDS.get(stat.S_IFMT(mode), 'something else')}")
    return path.read_bytes()

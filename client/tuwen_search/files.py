"""Pictures that are files of their own: found without being read."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuwen_search.entries import Found

__all__ = ["found_file", "kind_of_node"]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def found_file(path: Path, name: str, metadata: Mapping[str, Any] | None = None) -> Found:
    """Return the picture at a path; its version is the file's size and time, and a hash of metadata if there is any."""
    told = f"-{hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:16]}" if metadata else ""
    try:
        status = path.stat()
        version = f"{status.st_size}-{status.st_mtime_ns}{told}"
    except (OSError, ValueError):  # a path with a NUL is a ValueError
        version = "missing"  # reading raises the error that names the cause
    return Found(name, version, lambda: _bytes_of(path), metadata or {})


def kind_of_node(path: Path) -> str:
    """Return what is at a path that is no regular file: a folder, a FIFO, a socket or a device."""
    return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "something else")


def _bytes_of(path: Path) -> bytes:
    """Return the content of a regular file; reading a FIFO would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:
        raise OSError(str(error)) from error
    if not stat.S_ISREG(mode):
        raise OSError(f"expected a regular file, got {_KINDS.get(stat.S_IFMT(mode), 'something else')}")
    return path.read_bytes()

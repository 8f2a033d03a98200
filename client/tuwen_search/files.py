"""Pictures that are single files, which are listed without reading their contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuwen_files.file_versions import file_stamp, read_regular_file
from tuwen_search.entries import Found

__all__ = ["found_file"]


def found_file(path: Path, name: str, metadata: Mapping[str, Any] | None = None) -> Found:
    """Return the picture at a path. Its version consists of the file's size and time, and a hash of the metadata."""
    told = f"-{hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:16]}" if metadata else ""
    try:
        stamp = file_stamp(path)
    except OSError:  # a later read of the file raises the error with the cause
        stamp = ""
    version = f"{stamp}{told}" if stamp else "missing"
    return Found(name, version, lambda: read_regular_file(path), metadata or {}, stamp)

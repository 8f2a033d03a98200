"""Hashes of files, for manifests and fingerprints."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["file_hashes", "sha256_of"]


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder, by the file's path in the folder.

    The paths contain ``/`` on every system.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}

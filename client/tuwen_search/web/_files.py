"""The files of full-size pictures, which are shown only if they lie in folders that the operator named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuwen_search.records import Picture

__all__ = ["MEDIA_TYPES", "file_of"]

MEDIA_TYPES = {
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
"""The media types of pictures that browsers show, by suffix."""


def file_of(picture: Picture, roots: Sequence[Path]) -> Path | None:
    """Return the path of a picture's file; None if it lies outside the folders, or browsers cannot show it.

    Args:
        picture: the picture. Its source and its name are not trusted, so links in the path are resolved.
        roots: the folders that the operator named, with links resolved.
    """
    try:
        path = Path(picture.source, picture.name).resolve()
        inside = any(path.is_relative_to(root) for root in roots)
        return path if inside and path.suffix.lower() in MEDIA_TYPES and path.is_file() else None
    except (OSError, ValueError):  # the name is too long, or contains a NUL
        return None

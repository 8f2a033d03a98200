"""Full-size pictures, only from folders that the operator named."""

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
"""The media types that browsers show."""


def file_of(picture: Picture, roots: Sequence[Path]) -> Path | None:
    """Return the file of a picture if it lies in one of the folders, links resolved, and browsers can show it.

    Args:
        picture: the picture. Its source and name are not trusted.
        roots: the folders, resolved.
    """
    try:
        path = Path(picture.source, picture.name).resolve()
        inside = any(path.is_relative_to(root) for root in roots)
        return path if inside and path.suffix.lower() in MEDIA_TYPES and path.is_file() else None
    except (OSError, ValueError):  # a name too long, or with a NUL
        return None

"""Pictures for collections, and what a search in them found."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["Open", "found", "picture", "write"]

Open = Callable[..., Any]
"""A function that opens the collection ``pictures``: by a fake transport, with options of `Collection.open`."""


def picture(shade: int, side: int = 16) -> bytes:
    """Return an encoded picture of one colour, twice as high as wide."""
    output = io.BytesIO()
    Image.new("RGB", (side, 2 * side), (shade, 255 - shade, 40)).save(output, "PNG")
    return output.getvalue()


def write(folder: Path, **shades: int) -> Path:
    """Write pictures with these names and shades, and return the folder."""
    for name, shade in shades.items():
        (folder / f"{name}.png").write_bytes(picture(shade))
    return folder


def found(results: Any) -> list[str]:
    """Return the names of the pictures that a search found, the best first."""
    return [hit.picture.name for hit in results.hits]

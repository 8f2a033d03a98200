"""Small pictures for tests of collections, and the names of the pictures that a search found."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = ["Open", "found", "picture", "write"]

Open = Callable[..., Any]
"""A function that opens the collection ``pictures``.

It takes a fake transport for the client, or None for a new one, and options of `Collection.open`."""


def picture(shade: int, side: int = 16) -> bytes:
    """Return a PNG picture of one colour, `side` pixels wide and twice as high."""
    output = io.BytesIO()
    Image.new("RGB", (side, 2 * side), (shade, 255 - shade, 40)).save(output, "PNG")
    return output.getvalue()


def write(folder: Path, **shades: int) -> Path:
    """Write a picture for each name and shade, such as ``cat=100``, and return the folder."""
    for name, shade in shades.items():
        (folder / f"{name}.png").write_bytes(picture(shade))
    return folder


def found(results: Any) -> list[str]:
    """Return the names of the pictures that a search found, the best first."""
    return [hit.picture.name for hit in results.hits]

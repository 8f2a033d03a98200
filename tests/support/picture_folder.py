"""A folder of small pictures, no two of which are alike."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["picture_name", "write_pictures"]

_IN_A_FOLDER = 1000


def picture_name(number: int) -> str:
    """Return the path of a picture below its root, such as ``03/03003.png``."""
    return f"{number // _IN_A_FOLDER:02}/{number:05}.png"


def write_pictures(root: Path, count: int, *, broken: Container[int] = ()) -> Path:
    """Write pictures of random colours, a thousand to a subfolder, and return the root.

    Args:
        broken: numbers of files that hold no picture.
    """
    numbers = np.random.default_rng(0)
    for number in range(count):
        path = root / picture_name(number)
        path.parent.mkdir(exist_ok=True)
        colours = numbers.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        if number in broken:
            path.write_bytes(b"no picture")
        else:
            Image.fromarray(colours).resize((16, 16), Image.Resampling.NEAREST).save(path)
    return root

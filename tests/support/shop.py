"""A shop's folder of product pictures, and the table that lists them with prices and categories."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["SHARE_OF_DARK", "Shop"]

SHARE_OF_DARK = 0.03
"""The share of dark pictures, which a moderator looks for."""


class Shop:
    """A folder of product pictures and the table that lists them.

    Attributes:
        folder: the folder of the pictures.
        table: the table, ``products.csv`` in the folder.
        pictures: the number of pictures.
        dark: the number of dark pictures; the first ones are dark.
        rows: the rows of the table by the name of the picture. `write` writes them.

    Args:
        folder: an empty folder.
        pictures: the number of pictures.
    """

    def __init__(self, folder: Path, pictures: int) -> None:
        self.folder, self.table = folder, folder / "products.csv"
        self.pictures, self.dark = pictures, int(pictures * SHARE_OF_DARK)
        self.rows: dict[str, dict[str, str]] = {}
        for number in range(pictures):
            name = f"{number:04}.png"
            self.paint(name, number, dark=number < self.dark)
            category = ("鞋", "帽子", "包")[number % 3]
            self.rows[name] = {"path": name, "price": f"{5 + number % 500}", "类别": category}
        self.write()

    def paint(self, name: str, seed: int, *, dark: bool) -> None:
        """Write a picture of random colours."""
        pixels = np.random.default_rng(seed).integers(0, 60 if dark else 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(self.folder / name)

    def write(self) -> None:
        """Write the table."""
        with self.table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["path", "price", "类别"])
            writer.writeheader()
            writer.writerows(self.rows.values())

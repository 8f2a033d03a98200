"""Folders of small pictures, no two of which are alike, and the recall of searches among them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tuwen import Client
from tuwen_search import Collection

__all__ = ["picture_name", "recall_at_ten", "write_pictures"]

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


def recall_at_ten(
    collection: Collection, clip: Client, rows: Iterable[Mapping[str, Any]], queries: Sequence[str]
) -> float:
    """Return the share of the ten nearest pictures, by exact search, that a collection finds, in the mean of queries.

    Args:
        collection: the collection that is searched.
        clip: embeds the queries for the exact search.
        rows: the ``name`` and the ``vector`` of every picture in the collection.
        queries: texts.
    """
    names, vectors = zip(*((row["name"], row["vector"]) for row in rows), strict=True)
    matrix = np.asarray(vectors, np.float32)
    recalls = []
    for query, vector in zip(queries, clip.embed_texts(queries), strict=True):
        exact = {names[index] for index in np.argsort(-(matrix @ vector))[:10]}
        recalls.append(len(exact & {hit.picture.name for hit in collection.search(query).hits}) / 10)
    return float(np.mean(recalls))

"""Folders of many small pictures, all different, and the recall of searches in a collection of these pictures."""

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
    """Return the path of a picture relative to the root folder, such as ``03/03003.png``."""
    return f"{number // _IN_A_FOLDER:02}/{number:05}.png"


def write_pictures(root: Path, count: int, *, broken: Container[int] = ()) -> Path:
    """Write pictures of random colours, a thousand in each subfolder, and return the root folder.

    Args:
        root: the root folder, which exists.
        count: the number of files.
        broken: the numbers of the files whose bytes are not a picture.
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
    """Return the mean recall at 10 of searches in a collection, compared with an exact search.

    Args:
        collection: the collection that is searched.
        clip: the client that embeds the queries for the exact search.
        rows: the ``name`` and the ``vector`` of every picture in the collection.
        queries: the texts of the queries.
    """
    names, vectors = zip(*((row["name"], row["vector"]) for row in rows), strict=True)
    matrix = np.asarray(vectors, np.float32)
    recalls = []
    for query, vector in zip(queries, clip.embed_texts(queries), strict=True):
        exact = {names[index] for index in np.argsort(-(matrix @ vector))[:10]}
        recalls.append(len(exact & {hit.picture.name for hit in collection.search(query).hits}) / 10)
    return float(np.mean(recalls))

"""The items that users send: photographs in sizes of phones and shops, and queries, of which some are frequent."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from tuwen import InvalidArgumentError
from tuwen_files.image_files import IMAGE_SUFFIXES, image_files
from tuwen_files.text_files import read_lines
from tuwen_loadtest.options import PayloadOptions
from tuwen_server.traffic import distinct_query, photographs

__all__ = ["Payloads", "payloads_of"]

# width and height, and the number of photographs of this size among 32
_SIZES = {(480, 640): 8, (640, 480): 8, (800, 800): 8, (1280, 960): 5, (1920, 1080): 2, (4032, 3024): 1}
_DISTINCT_QUERIES = 1_000_000  # so many that no cache of a server holds all of them, as in production
_WORKER_SEEDS = 1_000_003  # the distance of the seeds of two workers, larger than any number of repetitions


class Payloads:
    """An endless supply of pictures and queries.

    Raises:
        InvalidArgumentError: the folder has no pictures, or the file has no queries.
    """

    def __init__(self, options: PayloadOptions) -> None:
        own_seed = options.seed + _WORKER_SEEDS * options.worker
        self._choose = random.Random(own_seed)  # noqa: S311 - no secret
        self._images = itertools.cycle(_read_images(options.images) if options.images else _made_images(own_seed))
        self._seed = options.seed
        self._queries = _read_queries(options.queries) if options.queries else None
        ranks = np.arange(1, 1 + (len(self._queries) if self._queries else _DISTINCT_QUERIES))
        self._weights = np.cumsum(1 / ranks**options.skew)

    def image(self) -> bytes:
        """Return the next picture as an encoded file."""
        return next(self._images)

    def query(self) -> str:
        """Return a random query, drawn by Zipf's law: the query of rank 1 is the most frequent."""
        place = self._choose.random() * self._weights[-1]
        rank = min(int(np.searchsorted(self._weights, place, side="right")), len(self._weights) - 1)
        return self._queries[rank] if self._queries else distinct_query(rank, seed=self._seed)


@cache
def payloads_of(options: PayloadOptions) -> Payloads:
    """Return the payloads of this process, which all its users share."""
    return Payloads(options)


def _made_images(seed: int) -> Sequence[bytes]:
    made = [photo for size, count in _SIZES.items() for photo in photographs(count, size=size, seed=seed)]
    random.Random(seed).shuffle(made)  # noqa: S311 - no secret
    return made


def _read_images(folder: Path) -> Sequence[bytes]:
    files = sorted(image_files(folder))
    if not files:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InvalidArgumentError(f"expected pictures in '{folder}', found no file that ends in {suffixes}")
    return [path.read_bytes() for path in files]


def _read_queries(path: Path) -> Sequence[str]:
    lines = read_lines(path)
    if not lines:
        raise InvalidArgumentError(f"expected one query in each line of '{path}', got a file without text")
    return lines

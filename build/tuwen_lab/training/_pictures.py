"""The pictures of a split, decoded on demand and cached if they fit into the given memory."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tuwen import InvalidArgumentError
from tuwen_lab.datasets import RetrievalSplit

__all__ = ["Pictures"]


class Pictures:
    """Random access to the pictures of ``{split}_imgs.tsv``, squashed to squares as in Chinese-CLIP.

    Transparency is kept, because the augmentation chooses the background.

    Attributes:
        ids: the ids of the pictures in the order of the file.
    """

    def __init__(self, split: RetrievalSplit, side: int, *, cache_mib: int, workers: int) -> None:
        """Read the positions of the pictures in the file.

        Args:
            split: the split to read.
            side: the side of the squares in pixels.
            cache_mib: the memory for decoded squares. If all squares fit, they are cached.
            workers: the number of threads that decode.
        """
        self._split = split
        self._side = side
        self._places = split.image_places()
        self.ids = [place.image_id for place in self._places]
        self._file = os.open(split.images_file, os.O_RDONLY)
        self._pool = ThreadPoolExecutor(workers)
        fits = len(self.ids) * 4 * side * side <= cache_mib * 2**20
        self._kept: dict[int, Tensor] | None = {} if fits else None

    def __len__(self) -> int:
        return len(self.ids)

    def __enter__(self) -> Pictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        os.close(self._file)

    def batch(self, rows: Sequence[int]) -> Tensor:
        """Return pictures as uint8 (n, 4, S, S): red, green, blue and opacity.

        Raises:
            InvalidArgumentError: a picture cannot be decoded.
        """
        return torch.stack(list(self._pool.map(self._picture, rows)))

    def _picture(self, row: int) -> Tensor:
        if self._kept is not None and row in self._kept:
            return self._kept[row]
        place = self._places[row]
        try:
            content = self._split.decode_image(os.pread(self._file, place.length, place.offset), place.line)
            with Image.open(io.BytesIO(content)) as image:
                square = image.convert("RGBA").resize((self._side, self._side), Image.Resampling.BICUBIC)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            where = f"{self._split.images_file}, line {place.line}, image {place.image_id}"
            reason = "not a picture of a known format" if isinstance(error, UnidentifiedImageError) else error
            raise InvalidArgumentError(f"{where}: {reason}") from error
        picture = torch.from_numpy(np.asarray(square).transpose(2, 0, 1).copy())
        if self._kept is not None:
            self._kept[row] = picture
        return picture

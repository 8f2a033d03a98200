"""The batches of pictures and texts. A seed and a step always give the same batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuwen_lab.options import Recipe
from tuwen_lab.training._augmentation import augment, on_white
from tuwen_lab.training._captions import Captions
from tuwen_lab.training._pictures import Pictures

__all__ = ["Batch", "Batches", "fitting_batch_size", "pad"]

_SMALLEST = 8  # pictures: a picture is compared with all texts of its batch
_ORIENTED = frozenset("左右字键号码时钟顺逆")  # a mirror image of these has another meaning


@dataclass(frozen=True, eq=False)
class Batch:
    """The pictures and captions of one step.

    Attributes:
        pixels: the pictures, float32 (n, 3, S, S) from 0 to 1.
        input_ids, attention_mask: a caption for each picture, as token ids and mask, int64 (n, L).
        fits: for each pair, whether a caption (column) is true of a picture (row), bool (n, n).
        groups: the group of each picture, int64 (n,).
        caption_groups: for each caption, equal shares for the groups of which the caption is true, float32 (n, G).
    """

    pixels: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    fits: Tensor
    groups: Tensor
    caption_groups: Tensor

    def part(self, rows: slice) -> Batch:
        """Return some of the pictures and captions. `fits` stays complete, because it compares all pairs."""
        tensors = (self.pixels, self.input_ids, self.attention_mask)
        pixels, input_ids, attention_mask = (tensor[rows] for tensor in tensors)
        return Batch(pixels, input_ids, attention_mask, self.fits, self.groups[rows], self.caption_groups[rows])

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return Batch(*[tensor.to(device, non_blocking=True) for tensor in vars(self).values()])


class Batches:
    """The batches of a training, one for each step. The next batch is prepared while a step computes."""

    def __init__(
        self,
        pictures: Pictures,
        captions: Captions,
        tokenize: Callable[[str], Sequence[int]],
        *,
        size: int,
        recipe: Recipe,
        seed: int,
        easing: float = 0,
    ) -> None:
        """Combine pictures and captions.

        Args:
            pictures: the pictures of the split.
            captions: the captions of the split.
            tokenize: a function from a text to its token ids.
            size: the batch size.
            recipe: the augmentation of pictures and captions.
            seed: the seed of all random numbers.
            easing: the number of epochs, from the first, in which the share of varied pictures grows. If a tower of
                random weights sees only strongly varied artwork, all its vectors become equal.
        """
        self._pictures, self._captions, self._tokenize = pictures, captions, tokenize
        self._size, self._recipe, self._seed = fitting_batch_size(size, len(pictures)), recipe, seed
        self._easing = round(easing * self.an_epoch)
        self._shuffled: tuple[int, NDArray[np.int64]] | None = None  # an epoch and its order
        self._may_flip = torch.tensor([not _ORIENTED & set(captions.words(row)) for row in range(len(pictures))])
        self._known: dict[str, Sequence[int]] = {}

    @property
    def size(self) -> int:
        """The number of pictures of a step."""
        return self._size

    @property
    def an_epoch(self) -> int:
        """The number of full batches in an epoch. The remaining pictures come in the next epoch."""
        return len(self._pictures) // self._size

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of the steps from `first` to `last`, without `last`."""
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self.batch, first) if first < last else None
            for step in range(first, last):
                assert following is not None  # noqa: S101 - for the type checker
                ready = following.result()
                following = ahead.submit(self.batch, step + 1) if step + 1 < last else None
                yield ready

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        epoch, position = divmod(step, self.an_epoch)
        rows = self._order(epoch)[position * self._size : (position + 1) * self._size].tolist()
        random = np.random.default_rng([self._seed, 2, step])
        captions = self._captions.sample(rows, self._recipe, random)
        variation = torch.Generator().manual_seed(int(random.integers(2**62)))
        pictures = self._pictures.batch(rows)
        pixels = augment(pictures, self._recipe, self._may_flip[rows], variation)
        if step < self._easing:
            plain = torch.rand(len(rows), generator=variation) >= step / self._easing
            pixels[plain] = on_white(pictures[plain])
        input_ids, attention_mask = pad([self._ids(caption.text) for caption in captions])
        return Batch(
            pixels,
            input_ids,
            attention_mask,
            self._captions.fits(captions, rows),
            self._captions.group_of[rows],
            self._captions.fitting_groups(captions),
        )

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of all pictures in an epoch. It is cached, because shuffling a large dataset takes long."""
        if self._shuffled is None or self._shuffled[0] != epoch:
            order = np.random.default_rng([self._seed, 1, epoch]).permutation(len(self._pictures))
            self._shuffled = (epoch, order)
        return self._shuffled[1]

    def _ids(self, text: str) -> Sequence[int]:
        if text not in self._known:
            if len(self._known) > 1_000_000:
                self._known.clear()
            self._known[text] = self._tokenize(text)
        return self._known[text]


def fitting_batch_size(size: int, pictures: int) -> int:
    """Return the batch size, or a smaller size if it exceeds the number of pictures.

    With the smaller size, an epoch has about eight steps.
    """
    return size if size <= pictures else min(pictures, max(_SMALLEST, pictures // 8))


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return padded token ids and their mask, int64 (n, L). BERT's padding is 0."""
    input_ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for row, ids in zip(input_ids, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return input_ids, (torch.arange(input_ids.shape[1]) < torch.tensor([[len(ids)] for ids in rows])).long()

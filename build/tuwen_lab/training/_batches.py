"""Batches: which pictures with which texts, the same for a seed and a step whenever they are asked for."""

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

__all__ = ["Batch", "Batches", "pad"]

_ORIENTED = frozenset("左右字键号码时钟顺逆")  # a picture of these means something else in a mirror


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step compares.

    Attributes:
        pixels: float32 (n, 3, S, S) from 0 to 1.
        input_ids, attention_mask: int64 (n, L), a caption for each picture.
        fits: bool (n, n): which caption is true of which picture.
        groups: int64 (n,), the pictures' groups.
        caption_groups: float32 (n, G): the groups that a caption is true of, evenly.
    """

    pixels: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    fits: Tensor
    groups: Tensor
    caption_groups: Tensor

    def part(self, rows: slice) -> Batch:
        """Some of the pictures and captions; `fits` is left whole, since it compares all with all."""
        tensors = (self.pixels, self.input_ids, self.attention_mask)
        pixels, input_ids, attention_mask = (tensor[rows] for tensor in tensors)
        return Batch(pixels, input_ids, attention_mask, self.fits, self.groups[rows], self.caption_groups[rows])

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*[tensor.to(device, non_blocking=True) for tensor in vars(self).values()])


class Batches:
    """Makes the batch of any step; the next one is made while a step computes."""

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
        """Join pictures and captions.

        Args:
            pictures: of the split.
            captions: of the same.
            tokenize: a text to token ids.
            size: of a batch.
            recipe: how both are varied.
            seed: of all that is random.
            easing: over this many epochs at first a growing share of the pictures is varied. A tower of random weights
                that sees nothing but strongly varied artwork ends at one vector for everything.
        """
        self._pictures, self._captions, self._tokenize = pictures, captions, tokenize
        self._size, self._recipe, self._seed = min(size, len(pictures)), recipe, seed
        self._easing = round(easing * self.an_epoch)
        self._shuffled: tuple[int, NDArray[np.int64]] | None = None  # an epoch and its order
        self._may_flip = torch.tensor([not _ORIENTED & set(captions.words(row)) for row in range(len(pictures))])
        self._known: dict[str, Sequence[int]] = {}

    @property
    def an_epoch(self) -> int:
        """Steps that show every picture once; a rest that fills no batch waits for the next epoch."""
        return len(self._pictures) // self._size

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps from `first` up to, but not, `last`."""
        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(self.batch, first) if first < last else None
            for step in range(first, last):
                assert following is not None  # noqa: S101 - for the type checker
                ready = following.result()
                following = ahead.submit(self.batch, step + 1) if step + 1 < last else None
                yield ready

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
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
        """Of all pictures; of a large dataset it takes too long to be made anew for every step."""
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


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and their mask, int64 (n, L); 0 is BERT's padding."""
    input_ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for row, ids in zip(input_ids, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return input_ids, (torch.arange(input_ids.shape[1]) < torch.tensor([[len(ids)] for ids in rows])).long()

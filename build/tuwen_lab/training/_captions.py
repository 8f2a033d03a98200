"""The captions of a split: which texts fit a picture, and how training phrases them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuwen import InvalidArgumentError
from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.evaluation import evaluation_text
from tuwen_lab.options import Recipe

__all__ = ["Caption", "Captions"]

_TEMPLATES = (
    "一张{}的图片",
    "{}的图片",
    "一个{}",
    "一只{}",
    "{}的表情符号",
    "{}的图标",
    "画着{}的画",
    "这是{}",
    "一幅{}的插图",
    "{}的照片",
)
_TEMPLATED, _JOINED = 0.4, 0.25  # shares of the captions


@dataclass(frozen=True)
class Caption:
    """A caption of a picture.

    Attributes:
        text: the words.
        parts: the indices of the texts in the caption. The caption fits the pictures that all these texts fit.
    """

    text: str
    parts: frozenset[int]


class Captions:
    """The texts of the pictures of a split.

    Pictures with the same texts form a group, because the data does not distinguish them.

    Attributes:
        group_of: the group of every picture.
        groups: the number of groups.
    """

    def __init__(self, split: RetrievalSplit, image_ids: Sequence[int]) -> None:
        """Read which text fits which picture.

        Raises:
            InvalidArgumentError: a picture has no text, or its id is repeated.
        """
        row_of = {image: row for row, image in enumerate(image_ids)}
        if len(row_of) < len(image_ids):
            twice = next(image for row, image in enumerate(image_ids) if row_of[image] != row)
            raise InvalidArgumentError(f"{split.images_file}: the image {twice} is repeated; remove one")
        truths = split.truths()
        self._texts: list[str] = []
        fitting: list[set[int]] = [set() for _ in image_ids]
        index_of: dict[str, int] = {}  # equal texts with two ids count as one text
        for number, raw in split.texts():
            text = evaluation_text(raw, "chinese-clip")  # as in cn_clip/training/data.py
            index = index_of.setdefault(text, len(self._texts))
            if index == len(self._texts):
                self._texts.append(text)
            for image in truths[number]:
                if image in row_of:
                    fitting[row_of[image]].add(index)
        if silent := [image_ids[row] for row, texts in enumerate(fitting) if not texts]:
            raise InvalidArgumentError(
                f"{len(silent)} of {len(image_ids)} images of {split.images_file} have no text, such as {silent[:3]}; "
                "add texts, or skip the images with --skip-bad-rows"
            )
        counts = np.zeros(len(self._texts))
        for texts in fitting:
            counts[list(texts)] += 1
        self._fitting = [frozenset(texts) for texts in fitting]
        members = {texts: group for group, texts in enumerate(dict.fromkeys(self._fitting))}
        self.group_of = torch.tensor([members[texts] for texts in self._fitting])
        self.groups = len(members)
        self._groups_with: list[set[int]] = [set() for _ in self._texts]
        for shared, group in members.items():
            for row in shared:
                self._groups_with[row].add(group)
        self._choices: list[tuple[list[int], NDArray[np.float64]]] = []  # a picture's texts, and their probabilities
        for shared in self._fitting:
            rows = sorted(shared)
            weights = 1 / np.sqrt(counts[rows])  # a text that fits many pictures describes each of them less
            self._choices.append((rows, weights / weights.sum()))

    def sample(self, rows: Sequence[int], recipe: Recipe, random: np.random.Generator) -> list[Caption]:
        """Return one caption for each picture."""
        return [self._caption(row, recipe, random) for row in rows]

    def _caption(self, row: int, recipe: Recipe, random: np.random.Generator) -> Caption:
        texts, shares = self._choices[row]
        count = 1
        if recipe == "artwork" and len(texts) > 1 and random.random() < _JOINED:
            count = int(random.integers(2, min(len(texts), 4) + 1))
        parts = [texts[index] for index in random.choice(len(texts), count, replace=False, p=shares)]
        text = "，".join(self._texts[part] for part in parts)
        if recipe == "artwork" and random.random() < _TEMPLATED:
            text = _TEMPLATES[random.integers(len(_TEMPLATES))].format(text)
        return Caption(text, frozenset(parts))

    def words(self, row: int) -> str:
        """Return all texts of a picture as one string, in which a caller can search for words."""
        return " ".join(self._texts[text] for text in self._fitting[row])

    def fits(self, captions: Sequence[Caption], rows: Sequence[int]) -> Tensor:
        """Return whether each caption is true of each picture, bool (pictures, captions)."""
        return torch.tensor([[caption.parts <= self._fitting[row] for caption in captions] for row in rows])

    def fitting_groups(self, captions: Sequence[Caption]) -> Tensor:
        """Return equal shares for the groups of which each caption is true, float32 (captions, groups)."""
        targets = torch.zeros(len(captions), self.groups)
        for target, caption in zip(targets, captions, strict=True):
            groups = set.intersection(*[self._groups_with[part] for part in caption.parts])
            target[list(groups)] = 1 / len(groups)
        return targets

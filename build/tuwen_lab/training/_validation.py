"""Recall on a validation split, computed as in `tuwen evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.evaluation import Features, RetrievalReport, evaluation_text, retrieval_report
from tuwen_lab.training._augmentation import on_white
from tuwen_lab.training._batches import pad
from tuwen_lab.training._model import TwoTowers
from tuwen_lab.training._pictures import Pictures

__all__ = ["Validation"]

_AT_ONCE = 128


class Validation:
    """The validation split."""

    def __init__(self, split: RetrievalSplit, pictures: Pictures, tokenize: Callable[[str], Sequence[int]]) -> None:
        self._pictures = pictures
        self._truths = split.truths()
        self._texts = [(number, tokenize(evaluation_text(text, "chinese-clip"))) for number, text in split.texts()]

    @torch.no_grad()
    def report(self, towers: TwoTowers, normalise: Callable[[Tensor], Tensor], device: torch.device) -> RetrievalReport:
        """Embed the split in float32, and compute its recall."""
        training = towers.training
        towers.eval()
        images, texts = [], []
        for start in range(0, len(self._pictures), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(self._pictures)))
            images.append(towers.images(normalise(on_white(self._pictures.batch(rows)).to(device))).cpu())
        for start in range(0, len(self._texts), _AT_ONCE):
            input_ids, mask = pad([ids for _, ids in self._texts[start : start + _AT_ONCE]])
            texts.append(towers.texts(input_ids.to(device), mask.to(device)).cpu())
        towers.train(training)
        return retrieval_report(
            Features(self._pictures.ids, torch.cat(images).numpy()),
            Features([number for number, _ in self._texts], torch.cat(texts).numpy()),
            self._truths,
        )

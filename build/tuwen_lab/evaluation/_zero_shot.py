"""Zero-shot classification, as Chinese-CLIP's ``cn_clip/eval/zeroshot_evaluation.py`` measures it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuwen import Client, InvalidArgumentError
from tuwen.zero_shot import Templates, label_embeddings, label_texts, template_texts
from tuwen_lab.datasets._splits import ClassFolder
from tuwen_lab.evaluation._features import evaluation_text

__all__ = ["ZeroShotReport", "evaluate_zero_shot", "zero_shot_report"]


@dataclass(frozen=True, eq=False)
class ZeroShotReport:
    """How often the right label is the best, or among the best five.

    Attributes:
        top1, top5: in percent of the images.
        mean_per_class: the mean of the classes' own top1, in percent: what counts where classes differ in size.
        labels: the m labels.
        confusion: int (m, m): how often an image of the class of the row was given the label of the column.
    """

    top1: float
    top5: float
    mean_per_class: float
    labels: tuple[str, ...]
    confusion: NDArray[np.int64]

    @property
    def images(self) -> int:
        """How many images were classified."""
        return int(self.confusion.sum())


def evaluate_zero_shot(
    clip: Client, dataset: ClassFolder, templates: Templates = "zh", *, progress: bool = False
) -> ZeroShotReport:
    """Classify every image of a dataset by its labels.

    Raises:
        InvalidArgumentError: templates that are none, or an image is refused.
        ServerError: the server, or the way to it, failed.
    """
    family = clip.model_card().family
    texts = template_texts(templates)
    prompts = [evaluation_text(prompt, family) for prompt in label_texts(dataset.labels, texts)]
    labels = label_embeddings(clip.embed_texts(prompts), len(texts))
    images = dataset.images()
    vectors, classes = [], []
    for outcome in clip.stream_images(((item, path) for item, (_, path) in enumerate(images)), progress=progress):
        number, path = images[outcome.index]
        if outcome.embedding is None:
            raise InvalidArgumentError(f"{path} is refused: {outcome.error and outcome.error.message}")
        vectors.append(outcome.embedding)
        classes.append(number)
    return zero_shot_report(np.stack(vectors), classes, labels, dataset.labels)


def zero_shot_report(
    images: NDArray[np.float32], classes: Sequence[int], labels: NDArray[np.float32], names: Sequence[str]
) -> ZeroShotReport:
    """The report on vectors.

    Args:
        images: float32 (n, D).
        classes: the right label of each, as a position.
        labels: float32 (m, D), the mean of a label's texts, normalised.
        names: of the labels.
    """
    right = np.asarray(classes)
    order = np.argsort(-(images @ labels.T), axis=1, kind="stable")
    hits = order == right[:, None]
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (right, order[:, 0]), 1)
    sizes = confusion.sum(axis=1)
    per_class = confusion.diagonal()[sizes > 0] / sizes[sizes > 0]
    return ZeroShotReport(
        top1=float(hits[:, 0].mean() * 100),
        top5=float(hits[:, :5].any(axis=1).mean() * 100),
        mean_per_class=float(per_class.mean() * 100),
        labels=tuple(names),
        confusion=confusion,
    )

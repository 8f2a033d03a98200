"""Zero-shot classification, measured as in Chinese-CLIP's ``cn_clip/eval/zeroshot_evaluation.py``."""

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
    """The accuracy of a zero-shot classification.

    Attributes:
        top1, top5: the share of images whose correct label is the best, or among the best five, in percent.
        mean_per_class: the mean of the classes' top1, in percent. Every class counts equally, whatever its size.
        labels: the m labels.
        confusion: the counts, int (m, m): the number of images of the row's class that got the column's label.
    """

    top1: float
    top5: float
    mean_per_class: float
    labels: tuple[str, ...]
    confusion: NDArray[np.int64]

    @property
    def images(self) -> int:
        """The number of classified images."""
        return int(self.confusion.sum())


def evaluate_zero_shot(
    clip: Client, dataset: ClassFolder, templates: Templates = "zh", *, progress: bool = False
) -> ZeroShotReport:
    """Classify every image of a dataset among the dataset's labels.

    Raises:
        InvalidArgumentError: the templates are invalid, or the server rejects an image.
        ServerError: the server or the connection failed.
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
            raise InvalidArgumentError(f"the server rejected {path}: {outcome.error and outcome.error.message}")
        vectors.append(outcome.embedding)
        classes.append(number)
    return zero_shot_report(np.stack(vectors), classes, labels, dataset.labels)


def zero_shot_report(
    images: NDArray[np.float32], classes: Sequence[int], labels: NDArray[np.float32], names: Sequence[str]
) -> ZeroShotReport:
    """Compute the report from vectors.

    Args:
        images: the vectors of the images, float32 (n, D).
        classes: the index of the correct label of each image.
        labels: the vectors of the labels, float32 (m, D): the normalised mean of each label's texts.
        names: the labels, m strings.
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

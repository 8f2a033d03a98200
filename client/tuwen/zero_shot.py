"""Similarity of images and texts, zero-shot classification, and thresholds that accept or reject pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen._errors import EmbeddingSpaceError, InvalidArgumentError
from tuwen._requests import as_list, check_some
from tuwen._responses import Cache

if TYPE_CHECKING:
    from tuwen._client import Client
    from tuwen._images import ImageInput

__all__ = [
    "OWN_TEMPLATES",
    "Classification",
    "LabelCache",
    "Similarity",
    "Templates",
    "Threshold",
    "check_labels",
    "label_embeddings",
    "label_texts",
    "similarity",
    "template_texts",
    "text_vector",
]


@dataclass(frozen=True, eq=False)
class Similarity:
    """The similarity of n images and m texts. Every array is float32 (n, m). Objects are compared by identity.

    Attributes:
        cosine: the cosine of the two embeddings, from -1 to 1. Cosines are comparable between calls, so use them for
            thresholds and in an index.
        logits: the cosine times the model's logit scale (about 100).
        probabilities: the softmax of the logits over the texts, for each image. Probabilities compare only the texts of
            this call. With one text, the probability is always 1.
    """

    cosine: NDArray[np.float32]
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def similarity(images: NDArray[np.float32], texts: NDArray[np.float32], logit_scale: float) -> Similarity:
    """Return the similarity of images and texts, as the CLIP paper defines it (arXiv 2103.00020).

    Args:
        images: the unit vectors of the images, float32 (n, D).
        texts: the unit vectors of the texts, float32 (m, D).
        logit_scale: the factor between a cosine and a logit.
    """
    cosine = images @ texts.T
    logits = np.float32(logit_scale) * cosine
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Similarity(cosine, logits, exponentials / exponentials.sum(axis=1, keepdims=True))


Templates: TypeAlias = Literal["zh", "en", "none"] | Sequence[str]
"""Templates: ``zh``, ``en``, ``none`` (the label alone), or your own texts with ``{}`` in place of the label."""

_THRESHOLD_FORMAT = 1

OWN_TEMPLATES: dict[str, tuple[str, ...]] = {
    "none": ("{}",),
    "zh": (
        "{}",
        "{}的照片",
        "一张{}的照片",
        "{}的图片",
        "一张{}的特写",
        "一张清晰的{}的照片",
        "一张模糊的{}的照片",
        "一张光线很暗的{}的照片",
        "很多{}的照片",
        "{}的一部分",
        "一幅{}的画",
        "{}的卡通图",
    ),
    "en": (
        "{}",
        "a photo of a {}",
        "a photo of the {}",
        "a picture of a {}",
        "a close-up of a {}",
        "a clear photo of a {}",
        "a blurry photo of a {}",
        "a dark photo of a {}",
        "a photo of many {}",
        "a part of a {}",
        "a painting of a {}",
        "a cartoon of a {}",
    ),
}


@dataclass(frozen=True, eq=False)
class Classification:
    """The probabilities of m labels for n images. Objects are compared by identity.

    Attributes:
        labels: the m labels, in the order in which they were passed.
        scores: the cosines, logits and probabilities, each float32 (n, m). The probabilities of an image add up to 1,
            even if it shows nothing that a label names.
    """

    labels: tuple[str, ...]
    scores: Similarity

    @property
    def best(self) -> tuple[str, ...]:
        """The most probable label of each image, in order."""
        return tuple(self.labels[index] for index in self.scores.cosine.argmax(axis=1))


def check_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the labels as a tuple, after a check that all of them differ.

    Raises:
        InvalidArgumentError: there is no label, a label is not a string or is repeated, or `labels` is a single string.
    """
    labels = check_some("classify", "label", labels)
    seen: set[str] = set()
    for index, label in enumerate(labels):
        if not isinstance(label, str):
            raise InvalidArgumentError(f"label {index}: expected a str, got {type(label).__name__}")
        if label in seen:
            raise InvalidArgumentError(f"label {index}: {label!r} is repeated; remove one")
        seen.add(label)
    return tuple(labels)


def template_texts(templates: Templates) -> tuple[str, ...]:
    """Return the texts of the templates.

    Args:
        templates: the name of one of the built-in lists, or your own texts with ``{}`` in place of the label.

    Raises:
        InvalidArgumentError: the name is unknown, there is no template, or a template lacks ``{}``.
    """
    if isinstance(templates, str):
        if templates not in OWN_TEMPLATES:
            raise InvalidArgumentError(
                f"templates: expected {', '.join(map(repr, OWN_TEMPLATES))}, or a list of texts with {{}}, "
                f"got {templates!r}"
            )
        return OWN_TEMPLATES[templates]
    templates = as_list("template", templates)
    for index, template in enumerate(templates):
        if not isinstance(template, str) or "{}" not in template:
            raise InvalidArgumentError(f"template {index}: expected a text with {{}} for the label, got {template!r}")
    if not templates:
        raise InvalidArgumentError("templates: expected at least one template, got an empty list")
    return tuple(templates)


def label_texts(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return every label in every template. All texts of the first label come first, as `label_embeddings` requires."""
    return [template.replace("{}", label) for label in labels for template in templates]


def label_embeddings(texts: NDArray[np.float32], templates: int) -> NDArray[np.float32]:
    """Return the unit vectors of m labels, float32 (m, D).

    The vector of a label is the mean of its texts' vectors, normalised again, as in Chinese-CLIP
    (cn_clip/eval/zeroshot_evaluation.py).

    Args:
        texts: the unit vectors of the labels' texts, float32 (m * templates, D), ordered by label.
        templates: the number of templates.
    """
    mean = texts.reshape(-1, templates, texts.shape[1]).mean(axis=1)
    unit: NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit


class LabelCache:
    """A cache of the vectors of recently used labels. Several threads may share a cache.

    Args:
        size: the maximum number of labels, counted once for each list of templates.
    """

    def __init__(self, size: int = 4096) -> None:
        self._cache: Cache[tuple[str, tuple[str, ...]], NDArray[np.float32]] = Cache(size)

    def known(self, labels: tuple[str, ...], templates: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        """Return the kept vectors (D,) of labels with these templates. Labels without a kept vector are left out."""
        known = self._cache.known((label, templates) for label in labels)
        return {label: vector for (label, _), vector in known.items()}

    def remember(self, vectors: Mapping[str, NDArray[np.float32]], templates: tuple[str, ...]) -> None:
        """Keep the vectors of labels with these templates. If the cache is full, drop the least recently used."""
        self._cache.remember({(label, templates): vector for label, vector in vectors.items()})


@dataclass(frozen=True)
class Threshold:
    """The smallest cosine at which a picture counts as a match for some texts.

    Attributes:
        texts: the texts. The score of a picture is the cosine of its vector and the mean vector of the texts.
        cosine: the smallest score of a picture that is accepted.
        fingerprint: the fingerprint of the embedding space that the threshold belongs to.
        checkpoint: the checkpoint of the model that the threshold was calibrated with; empty: unknown.
    """

    texts: tuple[str, ...]
    cosine: float
    fingerprint: str
    checkpoint: str = ""

    def scores(self, client: Client, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        """Return the score of each image, float32 (n,). An image is accepted if its score reaches `cosine`.

        Raises:
            EmbeddingSpaceError: the threshold was calibrated with another model than the server's.
            InvalidItemsError: images were refused. The error lists each with its index and the reason.
            ServerError: the server or the connection failed.
        """
        self.check(client.model_card().fingerprint, "the server's vectors")
        vectors: NDArray[np.float32] = client.embed_images(images)
        return vectors @ text_vector(client, self.texts)

    def check(self, fingerprint: str, whose: str) -> None:
        """Check that vectors come from the model that the threshold was calibrated with.

        Args:
            fingerprint: the fingerprint of the vectors' embedding space.
            whose: the name of the vectors in the error message, such as ``the server's vectors``.

        Raises:
            EmbeddingSpaceError: the vectors come from another model.
        """
        if fingerprint != self.fingerprint:
            where = f"the threshold was calibrated with {self.checkpoint or 'another model'}; {whose}"
            raise EmbeddingSpaceError(self.fingerprint, fingerprint, where)

    def save(self, path: str | os.PathLike[str], **measured: Any) -> None:
        """Write the threshold to a JSON file, which `load` reads.

        Args:
            path: the file. An existing file is replaced.
            measured: the measurements of the calibration, which the file holds for people. `load` ignores them.

        Raises:
            OSError: the file cannot be written.
        """
        content = {"tuwen_threshold": _THRESHOLD_FORMAT, **asdict(self), **measured}
        scratch = Path(f"{os.fspath(path)}.writing")
        try:
            scratch.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Threshold:
        """Return the threshold in a file that `tuwen calibrate` or `save` wrote.

        Raises:
            InvalidArgumentError: the file is missing, or it holds no threshold.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.get("tuwen_threshold") != _THRESHOLD_FORMAT:
                raise ValueError(
                    f"expected tuwen_threshold {_THRESHOLD_FORMAT}, got {content.get('tuwen_threshold')!r}"
                )
            texts, cosine = tuple(map(str, content["texts"])), float(content["cosine"])
            return cls(texts, cosine, str(content["fingerprint"]), str(content["checkpoint"]))
        except OSError as error:
            raise InvalidArgumentError(f"cannot read '{path}': {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidArgumentError(
                f"cannot read '{path}': expected a file that `tuwen calibrate` wrote ({type(error).__name__}: {error})"
            ) from error


def text_vector(client: Client, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the unit vector, float32 (D,), in the direction of the mean of the texts' vectors."""
    mean = client.embed_texts(list(texts)).mean(axis=0, dtype=np.float64)
    vector: NDArray[np.float32] = (mean / np.linalg.norm(mean)).astype(np.float32)
    return vector

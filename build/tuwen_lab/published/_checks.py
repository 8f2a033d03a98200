"""Comparisons of a served checkpoint with published numbers."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuwen import Client, InvalidArgumentError, TuwenError
from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.evaluation import PublishedRecall, RetrievalReport, embed_split, published_recall, retrieval_report
from tuwen_lab.published._checkpoints import PublishedExample

__all__ = ["Check", "HubUnreachableError", "check_example", "check_recalls", "fetch_picture", "splits_at_hand"]

# The published probabilities have five digits. Summing in another order can change the fifth digit.
PROBABILITY_TOLERANCE = 1e-4
# Recalls are published with one decimal, from fp16 on a GPU. In COCO-CN, 0.5 points are five of 1,053 queries.
RECALL_TOLERANCE = 0.5
_SPLITS = {"muge": "valid", "flickr30k-cn": "test", "coco-cn": "test"}
_LARGEST_PICTURE = 16 << 20  # bytes
_PICTURE_SECONDS = 30


class HubUnreachableError(TuwenError):
    """The hub, or the host of the example's picture, cannot be reached, so nothing can be compared."""


@dataclass(frozen=True)
class Check:
    """One published number beside the number of the served model."""

    name: str
    published: float
    served: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance; false for NaN."""
        return abs(self.served - self.published) <= self.tolerance

    def __str__(self) -> str:
        verdict = "holds" if self.holds else f"DIFFERS by more than {self.tolerance:g}"
        return f"{self.name}: published {self.published:.5g}, served {self.served:.5g}: {verdict}"


def fetch_picture(addresses: Sequence[str]) -> bytes:
    """Return the picture at the first address that answers.

    Raises:
        HubUnreachableError: no address answers; the message lists each address and its error.
    """
    failures = []
    for address in addresses:
        try:
            with urllib.request.urlopen(address, timeout=_PICTURE_SECONDS) as answer:  # noqa: S310 - our own addresses
                content: bytes = answer.read(_LARGEST_PICTURE)
                return content
        except (OSError, urllib.error.URLError) as error:
            failures.append(f"{address}: {error}")
    raise HubUnreachableError(f"cannot fetch the example's picture ({'; '.join(failures)})")


def check_example(clip: Client, example: PublishedExample, picture: bytes) -> list[Check]:
    """Compare the probabilities of the example's texts with the published ones."""
    texts = list(example.probabilities)
    [served] = clip.similarity(images=[picture], texts=texts).probabilities
    return [
        Check(f"example picture, {text}", example.probabilities[text], float(probability), PROBABILITY_TOLERANCE)
        for text, probability in zip(texts, served, strict=True)
    ]


def splits_at_hand(data: Path | None, architecture: str) -> dict[str, RetrievalSplit]:
    """Return the data sets of a folder, by name. Data sets without published recalls of the architecture are left out.

    Args:
        data: a folder with a subfolder for each data set, named ``MUGE``, ``Flickr30k-CN`` or ``COCO-CN``. Upper and
            lower case are alike.
        architecture: the name of the architecture, such as ``ViT-B-16``.
    """
    found = {}
    folders = {} if data is None else {path.name.lower(): path for path in data.iterdir() if path.is_dir()}
    for name, split in _SPLITS.items():
        if name in folders and published_recall(architecture, name) is not None:
            try:
                found[name] = RetrievalSplit(folders[name], split)
            except InvalidArgumentError:  # a folder without this split
                continue
    return found


def check_recalls(clip: Client, architecture: str, splits: dict[str, RetrievalSplit]) -> list[Check]:
    """Embed data sets and compare their recalls with the published ones."""
    checks: list[Check] = []
    for name, split in splits.items():
        published = published_recall(architecture, name)
        if published is None:
            raise InvalidArgumentError(f"no recall of {architecture} on {name} is published")
        images, texts = embed_split(clip, split, progress=True)
        checks += recall_checks(name, published, retrieval_report(images, texts, split.truths()))
    return checks


def recall_checks(name: str, published: PublishedRecall, report: RetrievalReport) -> Iterator[Check]:
    """Yield a check for each published recall of a data set."""
    directions = [
        ("text to image", published.text_to_image, report.text_to_image),
        ("image to text", published.image_to_text, report.image_to_text),
    ]
    for direction, numbers, served in directions:
        for k, number, own in zip((1, 5, 10), numbers or (), (served.r1, served.r5, served.r10), strict=False):
            yield Check(f"{name}, {direction}, R@{k}", number, own, RECALL_TOLERANCE)

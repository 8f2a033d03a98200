"""The published recalls of Chinese-CLIP's checkpoints without fine-tuning (``Results.md`` of Chinese-CLIP)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "PublishedRecall", "published_difference", "published_recall"]


@dataclass(frozen=True)
class PublishedRecall:
    """The published R@1, R@5 and R@10 in percent. For MUGE, only text to image is published."""

    text_to_image: tuple[float, float, float]
    image_to_text: tuple[float, float, float] | None = None


# The valid split of MUGE, and the test splits of the other datasets.
PUBLISHED: dict[str, dict[str, PublishedRecall]] = {
    "RN50": {
        "muge": PublishedRecall((42.6, 68.6, 77.9)),
        "flickr30k-cn": PublishedRecall((48.8, 76.0, 84.6), (60.0, 85.9, 92.0)),
        "coco-cn": PublishedRecall((48.1, 81.3, 90.5), (51.6, 81.2, 90.5)),
    },
    "ViT-B-16": {
        "muge": PublishedRecall((52.1, 76.7, 84.4)),
        "flickr30k-cn": PublishedRecall((62.7, 86.9, 92.8), (74.6, 93.5, 97.1)),
        "coco-cn": PublishedRecall((62.2, 86.6, 94.9), (57.0, 84.1, 93.6)),
    },
    "ViT-L-14": {
        "muge": PublishedRecall((56.3, 79.8, 86.2)),
        "flickr30k-cn": PublishedRecall((68.0, 89.7, 94.4), (80.2, 96.6, 98.2)),
        "coco-cn": PublishedRecall((64.0, 89.2, 94.4), (60.4, 84.2, 92.9)),
    },
    "ViT-L-14-336": {
        "muge": PublishedRecall((59.0, 81.4, 87.8)),
        "flickr30k-cn": PublishedRecall((69.0, 90.7, 95.4), (83.3, 97.2, 98.5)),
        "coco-cn": PublishedRecall((64.7, 89.6, 94.6), (63.4, 87.2, 94.4)),
    },
    "ViT-H-14": {
        "muge": PublishedRecall((63.0, 84.1, 89.2)),
        "flickr30k-cn": PublishedRecall((71.2, 91.4, 95.5), (81.6, 97.5, 98.8)),
        "coco-cn": PublishedRecall((69.2, 89.9, 96.1), (63.0, 86.6, 92.9)),
    },
}


@dataclass(frozen=True)
class _Split:
    """The split of a data set on which recalls were published.

    Attributes:
        name: the name of the split, such as ``valid``.
        images, texts: the numbers of images and texts in the split; None: the number is not compared.
    """

    name: str
    images: int | None
    texts: int


_SPLITS = {
    "muge": _Split("valid", None, 5008),
    "flickr30k-cn": _Split("test", 1000, 5000),
    "coco-cn": _Split("test", 1000, 1053),
}


def published_difference(benchmark: str, split: str, images: int, texts: int) -> str | None:
    """Return why measured recalls cannot be compared with published ones.

    None: the split has the published split's name and size, so that the recalls can be compared.
    """
    theirs = _SPLITS[benchmark]
    expected = [] if theirs.images is None else [f"{theirs.images:,} images"]
    expected.append(f"{theirs.texts:,} texts")
    if split == theirs.name and texts == theirs.texts and theirs.images in (None, images):
        return None
    return (
        f"the published numbers are of the split '{theirs.name}' of {benchmark} with {' and '.join(expected)}, and "
        f"this is '{split}' with {images:,} images and {texts:,} texts: the difference says nothing about the model"
    )


def published_recall(architecture: str, benchmark: str) -> PublishedRecall | None:
    """Return the published recall of an architecture on a data set; None: no recall is published."""
    return PUBLISHED.get(architecture, {}).get(benchmark)

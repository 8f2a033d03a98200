"""The published checkpoints, and the example of the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CHECKPOINTS", "PublishedCheckpoint", "PublishedExample"]


@dataclass(frozen=True)
class PublishedExample:
    """A picture with texts, and the probabilities that a model card publishes for them.

    Attributes:
        pictures: web addresses of one picture. The first address that answers is used.
        probabilities: the published probability of each text.
    """

    pictures: tuple[str, ...]
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A checkpoint on the hub.

    Attributes:
        hub_id: the id ``owner/name``.
        architecture: the name under which `tuwen_lab.evaluation.PUBLISHED` lists the checkpoint's recalls.
        example: the example of the model card; None: the card has no numbers.
    """

    hub_id: str
    architecture: str
    example: PublishedExample | None = None


# The example of the base model's card, and of the documentation of transformers.
_POKEMON = PublishedExample(
    pictures=(
        "https://clip-cn-beijing.oss-cn-beijing.aliyuncs.com/pokemon.jpeg",
        "https://raw.githubusercontent.com/OFA-Sys/Chinese-CLIP/master/examples/pokemon.jpeg",
    ),
    probabilities={"杰尼龟": 1.2686e-03, "妙蛙种子": 5.4499e-02, "小火龙": 6.7968e-04, "皮卡丘": 9.4355e-01},
)

CHECKPOINTS = (
    PublishedCheckpoint("OFA-Sys/chinese-clip-vit-base-patch16", "ViT-B-16", _POKEMON),
    PublishedCheckpoint("OFA-Sys/chinese-clip-rn50", "RN50"),
    PublishedCheckpoint("OFA-Sys/chinese-clip-vit-large-patch14", "ViT-L-14"),
    PublishedCheckpoint("OFA-Sys/chinese-clip-vit-large-patch14-336px", "ViT-L-14-336"),
    PublishedCheckpoint("OFA-Sys/chinese-clip-vit-huge-patch14", "ViT-H-14"),
)

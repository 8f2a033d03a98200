"""What every family's reader hands to the build: two towers, their reference, and the rules of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tuwen_build.options import ReadOptions

__all__ = [
    "Checkpoint",
    "ImageProcessor",
    "Origin",
    "Preprocessing",
    "Reader",
    "Reference",
    "Tokenization",
]


class ImageProcessor(Protocol):
    """The image processor of the checkpoint's own library, configured by the checkpoint's own files.

    Attributes:
        mean, std: per channel, of pixels scaled to [0, 1].
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def pixel_values(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the normalised pixel values of an RGB image, float32 (3, S, S)."""


@dataclass(frozen=True)
class Reference:
    """The family's own implementation, which the exported encoders are held to; it is never exported itself.

    Attributes:
        embed_images: normalised float32 pixels (n, 3, S, S) to un-normalised embeddings (n, D).
        embed_texts: int64 ids and mask (n, L) to un-normalised embeddings (n, D).
        tokenize: a text and a context length to the family's own ids, truncated, without padding.
        image_processor: judges our reading of the preprocessing files, and normalises for `embed_images`.
    """

    embed_images: Callable[[Tensor], Tensor]
    embed_texts: Callable[[Tensor, Tensor], Tensor]
    tokenize: Callable[[str, int], list[int]]
    image_processor: ImageProcessor


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the vision tower's input.

    Attributes:
        image_size: the side of the square input, in pixels.
        resize: ``squash`` to the square, or ``crop`` its centre once the shortest edge fits.
        mean, std: per channel, of pixels scaled to [0, 1].
    """

    image_size: int
    resize: Literal["squash", "crop"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Tokenization:
    """How a text becomes the text tower's input.

    Attributes:
        kind: the rules, one of those in ``text_tokenization/1/tokens.py``.
        files: the files of the checkpoint that hold the vocabulary, by name.
        assets: what the server's tokenizer reads, by file name (``vocab.txt``): equal bytes for equal vocabularies.
        vocabulary_size: how many tokens there are.
        default_context_length: what the family serves (52 for Chinese-CLIP), special tokens included.
        max_context_length: what the position embeddings allow.
        settings: what else the rules take, such as ``lowercase``.
        text_rules: the choices of `BuildOptions.text_rules` that make sense for the family.
    """

    kind: Literal["chinese_clip_wordpiece", "bert_wordpiece", "clip_bpe"]
    files: Mapping[str, Path]
    assets: Mapping[str, bytes]
    vocabulary_size: int
    default_context_length: int
    max_context_length: int
    settings: Mapping[str, bool]
    text_rules: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint came from.

    Attributes:
        source: the hub id, folder or file that it was read from.
        layout: how it lay on disk, in words.
        files: the files that were read, by the name that the manifest gives them.
    """

    source: str
    layout: str
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, in float32 and eval mode.

    Attributes:
        family: ``chinese-clip``, ``openai-clip`` or ``taiyi-clip``.
        vision: normalised pixels (n, 3, S, S) to embeddings (n, D), not yet unit vectors.
        text: int64 ids and mask (n, L) to embeddings (n, D), not yet unit vectors.
        vision_architecture, text_architecture: in words, for people.
        depth: the most transformer layers in one tower; rounding errors grow with its square root. Two
            convolutions count as one layer.
        logit_scale: what cosines are multiplied with to become logits; the exponential of the float32 weight.
    """

    family: str
    origin: Origin
    vision: nn.Module
    text: nn.Module
    vision_architecture: str
    text_architecture: str
    reference: Reference
    preprocessing: Preprocessing
    tokenization: Tokenization
    embedding_dimension: int
    depth: int
    logit_scale: float


class Reader(Protocol):
    """One family in one layout on disk. A new family is a module with one of these, listed in ``READERS``.

    Attributes:
        layout: in words, for the message about a checkpoint that nobody recognises.
        options: the `ReadOptions` it takes, by name.
    """

    layout: str
    options: frozenset[str]

    def recognises(self, path: Path) -> bool:
        """Whether a file or folder looks like this layout, from its file names and ``config.json`` alone."""

    def read(self, path: Path, source: str, options: ReadOptions) -> Checkpoint:
        """Load the checkpoint.

        Raises:
            CheckpointError: a file is missing or does not hold what the layout promises.
        """

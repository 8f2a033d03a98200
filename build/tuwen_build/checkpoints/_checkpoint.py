"""The interface between a family's reader and the build: two towers, their reference, and the rules of their inputs."""

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
    """The image processor of transformers, configured by the checkpoint's own files.

    Attributes:
        mean, std: the mean and the standard deviation of each channel, for pixels scaled to [0, 1].
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def pixel_values(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the normalised pixel values of an RGB image, float32 (3, S, S)."""


@dataclass(frozen=True)
class Reference:
    """The family's own implementation, with which the build compares the exported encoders. It is never exported.

    Attributes:
        embed_images: a function from normalised float32 pixels (n, 3, S, S) to un-normalised embeddings (n, D).
        embed_texts: a function from int64 ids and mask (n, L) to un-normalised embeddings (n, D).
        tokenize: a function from a text and a context length to the family's own ids, truncated, without padding.
        image_processor: the image processor with which the build's preprocessing is compared. Its mean and standard
            deviation also normalise the pixels for `embed_images`.
    """

    embed_images: Callable[[Tensor], Tensor]
    embed_texts: Callable[[Tensor, Tensor], Tensor]
    tokenize: Callable[[str, int], list[int]]
    image_processor: ImageProcessor


@dataclass(frozen=True)
class Preprocessing:
    """The rules that turn an image into the vision tower's input.

    Attributes:
        image_size: the side of the square input, in pixels.
        resize: ``squash`` stretches the image to the square; ``crop`` fits the shortest edge and crops the centre.
        mean, std: the mean and the standard deviation of each channel, for pixels scaled to [0, 1].
    """

    image_size: int
    resize: Literal["squash", "crop"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Tokenization:
    """The rules that turn a text into the text tower's input.

    Attributes:
        kind: the name of the rules in ``text_tokenization/1/tokens.py``.
        files: the files of the checkpoint that hold the vocabulary, by name.
        assets: the contents of the files that the server's tokenizer reads, by name (``vocab.txt``). Equal
            vocabularies give equal contents.
        vocabulary_size: the number of tokens.
        default_context_length: the family's default (52 for Chinese-CLIP), special tokens included.
        max_context_length: the maximum that the position embeddings allow.
        settings: further settings of the rules, such as ``lowercase``.
        text_rules: the values of `BuildOptions.text_rules` that the family supports.
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
    """The source of a checkpoint.

    Attributes:
        source: the hub id, folder or file from which the checkpoint was read.
        layout: a description of the checkpoint's layout on disk.
        files: the files that were read, by their names in the manifest.
    """

    source: str
    layout: str
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, in float32 and eval mode.

    Attributes:
        family: ``chinese-clip``, ``openai-clip`` or ``taiyi-clip``.
        vision: the image tower, from normalised pixels (n, 3, S, S) to embeddings (n, D), not yet unit vectors.
        text: the text tower, from int64 ids and mask (n, L) to embeddings (n, D), not yet unit vectors.
        vision_architecture, text_architecture: descriptions of the towers, such as ``BERT, 768 wide, 12 layers, ...``.
        depth: the number of transformer layers in the deeper tower. Rounding errors grow with its square root. Two
            convolutions count as one layer.
        logit_scale: the factor that turns cosines into logits; the exponential of the float32 weight.
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
    """A reader of one family in one layout on disk. ``READERS`` lists all readers.

    Attributes:
        layout: a description of the layout, for the error about a checkpoint that no reader recognises.
        options: the names of the `ReadOptions` that the reader takes.
    """

    layout: str
    options: frozenset[str]

    def recognises(self, path: Path) -> bool:
        """Return whether a file or folder looks like this layout, from its file names and ``config.json`` alone."""

    def read(self, path: Path, source: str, options: ReadOptions) -> Checkpoint:
        """Load the checkpoint.

        Raises:
            CheckpointError: a file is missing, or its content does not fit the layout.
        """

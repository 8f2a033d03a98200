"""What every family's reader hands to the build: two towers, their reference, and the rules of their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

__all__ = ["Checkpoint", "Preprocessing", "Reader", "Reference", "Tokenization"]


class Reference(Protocol):
    """The family's own implementation, which the exported encoders are held to; it is never exported itself."""

    def embed_images(self, pixel_values: Tensor) -> Tensor:
        """Normalised float32 pixels (n, 3, S, S) to un-normalised embeddings (n, D)."""

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 ids and mask (n, L) to un-normalised embeddings (n, D)."""

    def tokenize(self, text: str, context_length: int) -> list[int]:
        """The family's own tokenizer, truncated to the context length, without padding."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the vision tower's input.

    Attributes:
        image_size: the side of the square input, in pixels.
        mean, std: per channel, of pixels scaled to [0, 1].
    """

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Tokenization:
    """How a text becomes the text tower's input.

    Attributes:
        vocabulary: one WordPiece token a line, the line number being its id.
        default_context_length: what the family serves (52 for Chinese-CLIP), special tokens included.
        max_context_length: what the position embeddings allow.
    """

    vocabulary: Path
    default_context_length: int
    max_context_length: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, in float32 and eval mode.

    Attributes:
        family: ``chinese-clip``.
        source: the hub id or folder it was read from.
        vision: normalised pixels (n, 3, S, S) to embeddings (n, D), not yet unit vectors.
        text: int64 ids (n, L) and an additive mask (n, 1, 1, L) to embeddings (n, D), not yet unit vectors.
        depth: the most transformer layers in one tower; rounding errors grow with its square root.
        logit_scale: what cosines are multiplied with to become logits (the exponential is taken).
        files: the files the weights came from.
    """

    family: str
    source: str
    vision: nn.Module
    text: nn.Module
    reference: Reference
    preprocessing: Preprocessing
    tokenization: Tokenization
    embedding_dimension: int
    depth: int
    logit_scale: float
    files: tuple[Path, ...]


class Reader(Protocol):
    """One family in one layout on disk. A new family is a module with one of these, listed in ``READERS``."""

    family: str
    layout: str

    def recognises(self, folder: Path) -> bool:
        """Whether the folder looks like this reader's layout, from its file names and ``config.json`` alone."""

    def read(self, folder: Path, source: str) -> Checkpoint:
        """Load the checkpoint.

        Raises:
            CheckpointError: a file is missing or does not hold what the layout promises.
        """

"""What a user may choose about a build, validated once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tuwen import InvalidArgumentError
from tuwen_build.encoders import PRECISIONS, Precision

__all__ = ["BuildOptions", "ImageRules", "TextRules", "length_buckets"]

ImageRules = Literal["reference", "display"]
TextRules = Literal["reference", "evaluation"]
_BUCKETS = (8, 16, 24, 32)  # below the context length; search queries in Chinese are mostly 4 to 20 characters


@dataclass(frozen=True)
class BuildOptions:
    """The choices of one build.

    Attributes:
        precision: of the encoders' weights and arithmetic; embeddings are float32 on the wire in any case.
        max_batch_size: the most items of one request, and of one batch that Triton forms.
        context_length: the most tokens of a text; None takes what the family serves (52 for Chinese-CLIP).
        image_rules: ``reference`` preprocesses like Chinese-CLIP's own code; ``display`` sees an image as a
            viewer shows it (EXIF orientation applied, transparency on white, 16-bit greys scaled).
        text_rules: ``reference`` tokenizes like ``cn_clip.clip.tokenize``; ``evaluation`` first maps curly
            double quotes to straight ones, as Chinese-CLIP's training and evaluation scripts do.
    """

    precision: Precision = "fp32"
    max_batch_size: int = 32
    context_length: int | None = None
    image_rules: ImageRules = "reference"
    text_rules: TextRules = "reference"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InvalidArgumentError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if not 1 <= self.max_batch_size <= 1024:
            raise InvalidArgumentError(f"max batch size must be from 1 to 1024, not {self.max_batch_size}")
        if self.context_length is not None and self.context_length < 3:
            raise InvalidArgumentError(f"a context length of {self.context_length} leaves no room for text; 3 at least")
        if self.image_rules not in ("reference", "display"):
            raise InvalidArgumentError(f"image rules must be 'reference' or 'display', not {self.image_rules!r}")
        if self.text_rules not in ("reference", "evaluation"):
            raise InvalidArgumentError(f"text rules must be 'reference' or 'evaluation', not {self.text_rules!r}")


def length_buckets(context_length: int) -> tuple[int, ...]:
    """The lengths that texts are padded to: an encoder's cost is linear in the length."""
    return (*(bucket for bucket in _BUCKETS if bucket < context_length), context_length)

"""What a user may choose about a build, validated once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tuwen import InvalidArgumentError
from tuwen_build.export.encoders import PRECISIONS, Precision

__all__ = ["BuildOptions", "ImageRules", "JpegDecoding", "TextRules"]

ImageRules = Literal["reference", "display"]
JpegDecoding = Literal["full", "scaled"]
TextRules = Literal["reference", "evaluation", "unmasked"]
_JPEG_DECODING: tuple[str, ...] = get_args(JpegDecoding)
_IMAGE_RULES: tuple[str, ...] = get_args(ImageRules)
_TEXT_RULES: tuple[str, ...] = get_args(TextRules)


@dataclass(frozen=True)
class BuildOptions:
    """The choices of one build.

    Attributes:
        precision: of the encoders' weights and arithmetic; embeddings are float32 on the wire in any case.
        max_batch_size: the most items of one request, and of one batch that Triton forms.
        context_length: the most tokens of a text; None takes what the family serves (52 for Chinese-CLIP, else 77).
        image_rules: ``reference`` preprocesses like the model's own code; ``display`` sees an image as a
            viewer shows it (EXIF orientation applied, transparency on white, 16-bit greys scaled).
        jpeg_decoding: ``full``, or ``scaled``: faster for JPEGs of more than four times the encoder's side, whose
            pixels then are nearly those of the reference.
        text_rules: ``reference`` tokenizes like the model's own code. ``evaluation`` (Chinese-CLIP) first maps
            curly double quotes to straight ones, as its training and evaluation scripts do. ``unmasked`` (Taiyi)
            pads every text to the context length and attends to the padding, as its training did, and as its
            model cards do with the padding of their batch.
    """

    precision: Precision = "fp32"
    max_batch_size: int = 32
    context_length: int | None = None
    image_rules: ImageRules = "reference"
    jpeg_decoding: JpegDecoding = "full"
    text_rules: TextRules = "reference"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InvalidArgumentError(f"precision must be one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if not 1 <= self.max_batch_size <= 1024:
            raise InvalidArgumentError(f"max batch size must be from 1 to 1024, not {self.max_batch_size}")
        if self.context_length is not None and self.context_length < 3:
            raise InvalidArgumentError(f"a context length of {self.context_length} leaves no room for text; 3 at least")
        for what, rules, known in (
            ("image rules", self.image_rules, _IMAGE_RULES),
            ("JPEG decoding", self.jpeg_decoding, _JPEG_DECODING),
            ("text rules", self.text_rules, _TEXT_RULES),
        ):
            if rules not in known:
                raise InvalidArgumentError(f"{what} must be one of {', '.join(known)}, not {rules!r}")

"""The options of a build. Light to import: the command line derives its parameters from these dataclasses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from tuwen import InvalidArgumentError
from tuwen.model_names import check_name
from tuwen_options import Option, check_values, documented

__all__ = [
    "PRECISIONS",
    "BuildOptions",
    "BuildPrecision",
    "ImageRules",
    "JpegDecoding",
    "Precision",
    "ReadOptions",
    "TextRules",
]

Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
BuildPrecision = Literal["auto", Precision]
ImageRules = Literal["reference", "display"]
JpegDecoding = Literal["full", "scaled"]
TextRules = Literal["reference", "evaluation", "unmasked"]


@documented
@dataclass(frozen=True)
class BuildOptions:
    """The options of one build."""

    precision: Annotated[
        BuildPrecision,
        Option(
            "Precision of the encoders' weights and arithmetic; embeddings are always float32. `auto`: the fastest "
            "precision of the machine that runs the build. `int8` is for CPUs with AVX-512 VNNI and loses some recall."
        ),
    ] = "fp32"
    max_batch_size: Annotated[
        int, Option("Maximum batch size, for one request and for Triton's dynamic batcher.", min=1, max=1024)
    ] = 32
    context_length: Annotated[
        int | None,
        Option("Maximum number of tokens per text. Default: 52 for Chinese-CLIP, 77 for other families.", min=3),
    ] = None
    image_rules: Annotated[
        ImageRules,
        Option(
            "`reference`: preprocess like the model's own code. `display`: preprocess the image as a viewer shows it, "
            "with the EXIF orientation applied, transparency on white and 16-bit greys scaled."
        ),
    ] = "reference"
    jpeg_decoding: Annotated[
        JpegDecoding,
        Option(
            "`full`: decode JPEGs at their full resolution. `scaled`: decode large JPEGs at a half, a quarter or an "
            "eighth of the resolution, but at least at twice the encoder's size. This is faster, and the vectors are "
            "nearly the same."
        ),
    ] = "full"
    text_rules: Annotated[
        TextRules,
        Option(
            "`reference`: tokenize like the model's own code. `evaluation` (Chinese-CLIP only): first replace curly "
            "double quotes by straight quotes, as Chinese-CLIP's evaluation does. `unmasked` (Taiyi only): pad every "
            "text to the context length and attend to the padding, as Taiyi's training does."
        ),
    ] = "reference"

    name: Annotated[
        str,
        Option(
            "Name of the model on a server with several models, such as `b16`. The names of its Triton models begin "
            "with this name. Vectors and fingerprint do not depend on the name. Default: no name.",
            show_default=False,
        ),
    ] = ""

    def __post_init__(self) -> None:
        check_values(self)
        check_name(self.name)

    @property
    def encoder_precision(self) -> Precision:
        """The precision of the encoders.

        Raises:
            InvalidArgumentError: the precision is ``auto``. `build_repository` replaces ``auto`` by a precision first.
        """
        if self.precision == "auto":
            raise InvalidArgumentError(f"precision: expected one of {', '.join(PRECISIONS)}, got 'auto'")
        return self.precision


def _parse_heads(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"0*[1-9][0-9]*,0*[1-9][0-9]*", text):
        raise InvalidArgumentError(
            f"expected the numbers of attention heads of both towers, such as 12,12; got {text!r}"
        )
    image, _, text_heads = text.partition(",")
    return int(image), int(text_heads)


@documented
@dataclass(frozen=True)
class ReadOptions:
    """Facts about a checkpoint that its files may lack."""

    vision: Annotated[
        str | None,
        Option("OpenAI CLIP checkpoint (hub id or folder) that adds the image tower to a Taiyi text tower."),
    ] = None
    heads: Annotated[
        tuple[int, int] | None,
        Option(
            "Numbers of attention heads of the image and the text tower, such as 12,12. Needed only for native "
            "weights whose width no published model has.",
            metavar="IMAGE,TEXT",
            parse=_parse_heads,
        ),
    ] = None
    merge_adapter: Annotated[
        bool,
        Option("Merge the LoRA adapter in the checkpoint's folder into its base model, with peft (tuwen[peft])."),
    ] = False

"""The samples with which builds are verified: real images and texts, in every unusual form."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

__all__ = [
    "PHOTOGRAPHS",
    "KnownVocabulary",
    "SampleText",
    "awkward_images",
    "awkward_texts",
    "known_vocabularies",
    "sample",
    "vocabulary",
]

PHOTOGRAPHS = ("cat.jpg", "coffee.jpg", "rocket.jpg", "astronaut.jpg")
_DRAWING = "horse.png"


@dataclass(frozen=True)
class SampleText:
    """A text, and its ids in the original tokenizers.

    Attributes:
        everyday: the kinds of tokenizer for which transformers and the original code give the same ids.
        token_ids: by kind of tokenizer, the first 510 ids of the original code, without start and end token.
    """

    name: str
    text: str
    everyday: frozenset[str]
    token_ids: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class KnownVocabulary:
    """The vocabulary that made the stored ids of one kind of tokenizer.

    Attributes:
        made_by: the original code that made the ids, such as ``cn_clip``.
        sha256: the hash of the tokens in the order of their ids, one token per line.
    """

    made_by: str
    sha256: str


def sample(name: str) -> Path:
    """Return the path of a sample file, such as ``cat.jpg``."""
    return Path(str(resources.files(__package__).joinpath(name)))


def vocabulary() -> Path:
    """Return the 21128-token vocabulary of Chinese-CLIP, which is the vocabulary of BERT-Base, Chinese."""
    return sample("vocab.txt")


def known_vocabularies() -> dict[str, KnownVocabulary]:
    """Return the vocabulary that the ids in `awkward_texts` belong to, by kind of tokenizer."""
    return {kind: KnownVocabulary(**known) for kind, known in _texts()["vocabularies"].items()}


def awkward_texts() -> list[SampleText]:
    """Return texts of every kind that users send. ``tests/reference/sample_texts.py`` wrote the texts and ids."""
    return [
        SampleText(
            entry["name"],
            entry["text"] * entry.get("times", 1),
            frozenset(entry["everyday"]),
            {kind: tuple(ids) for kind, ids in entry["token_ids"].items()},
        )
        for entry in _texts()["texts"]
    ]


def _texts() -> Any:
    return json.loads(sample("texts.json").read_text(encoding="utf-8"))


@functools.cache
def awkward_images() -> dict[str, bytes]:
    """Return encoded images by name: photographs and a drawing in every mode, format and shape that users send."""
    images = {name: sample(name).read_bytes() for name in (*PHOTOGRAPHS, _DRAWING)}
    with Image.open(sample("cat.jpg")) as photograph, Image.open(sample(_DRAWING)) as drawing:
        images |= _modes(photograph, drawing)
        images |= _formats(photograph)
        images |= _shapes(photograph)
    return images


def _modes(photograph: Image.Image, drawing: Image.Image) -> dict[str, bytes]:
    grey = photograph.convert("L")
    faded = photograph.convert("RGBA")
    faded.putalpha(Image.linear_gradient("L").resize(photograph.size))
    sixteen = Image.frombytes("I;16", grey.size, b"".join(bytes((value, value)) for value in grey.tobytes()))
    palette = photograph.quantize(64)
    return {
        "grey.png": _encode(grey, "PNG"),
        "grey.jpg": _encode(grey, "JPEG"),
        "grey_alpha.png": _encode(faded.convert("LA"), "PNG"),
        "rgba.png": _encode(faded, "PNG"),
        "drawing_rgba.webp": _encode(drawing, "WEBP", lossless=True),
        "palette.png": _encode(palette, "PNG"),
        "palette_transparent.png": _encode(palette, "PNG", transparency=3),
        "palette_partly_transparent.png": _encode(palette, "PNG", transparency=bytes(range(64))),
        "one_bit.png": _encode(drawing.convert("1"), "PNG"),
        "sixteen_bit.png": _encode(sixteen, "PNG"),
        "sixteen_bit.tiff": _encode(sixteen, "TIFF"),
        "cmyk.jpg": _encode(photograph.convert("CMYK"), "JPEG"),
        "cmyk.tiff": _encode(photograph.convert("CMYK"), "TIFF"),
    }


def _formats(photograph: Image.Image) -> dict[str, bytes]:
    turned = [photograph.rotate(angle) for angle in (0, 90, 180)]
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was held upright
    return {
        "plain.png": _encode(photograph, "PNG"),
        "progressive.jpg": _encode(photograph, "JPEG", progressive=True, quality=80),
        "subsampled.jpg": _encode(photograph, "JPEG", subsampling="4:2:0", quality=40),
        "exif_rotated.jpg": _encode(photograph, "JPEG", exif=exif),
        "lossy.webp": _encode(photograph, "WEBP", quality=60),
        "animated.webp": _encode(turned[0], "WEBP", save_all=True, append_images=turned[1:]),
        "plain.gif": _encode(photograph, "GIF"),
        "animated.gif": _encode(turned[0], "GIF", save_all=True, append_images=turned[1:], duration=100),
        "animated.png": _encode(turned[0], "PNG", save_all=True, append_images=turned[1:]),
        "plain.bmp": _encode(photograph, "BMP"),
        "lzw.tiff": _encode(photograph, "TIFF", compression="tiff_lzw"),
        "pages.tiff": _encode(turned[0], "TIFF", save_all=True, append_images=turned[1:]),
    }


def _shapes(photograph: Image.Image) -> dict[str, bytes]:
    return {
        "1x1.png": _encode(photograph.resize((1, 1)), "PNG"),
        "8000x20.jpg": _encode(photograph.resize((8000, 20)), "JPEG"),
        "20x3000.png": _encode(photograph.resize((20, 3000)), "PNG"),
        "224x224.png": _encode(photograph.resize((224, 224)), "PNG"),
        # Cropping these to 64, 224 or 336 pixels leaves every remainder of 4, so that a wrong rounding of halves is
        # found.
        **{f"{width}x200.png": _encode(photograph.resize((width, 200)), "PNG") for width in (301, 304, 307, 310)},
    }


def _encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, image_format, **options)
    return encoded.getvalue()

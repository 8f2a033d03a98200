"""Encoded images to pixel values: the preprocessing of Chinese-CLIP and of CLIP, exactly, with nothing of Triton in it.

The rules are those of ``image_transform`` in ``cn_clip/clip/utils.py`` (``squash``: resize to a square) and of
``_transform`` in OpenAI's ``clip/clip.py`` (``crop``: resize the shortest edge, keep the centre). Both resize with
Pillow's bicubic filter, then convert to RGB, in that order. The order matters: Pillow resizes palette and 1-bit
images with the nearest neighbour, and dropping alpha after the resize keeps the colour under it. Rescaling
and normalisation are left to the encoder, so that a pixel stays one byte until it gets there.
"""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from ._structure import gif_parts, is_heic, jpeg_parts, png_chunks, tiff_parts
from .failures import ItemError

__all__ = [
    "ImageLimits",
    "PixelRules",
    "Preprocessor",
    "check_structure",
    "load_preprocessor",
    "open_image",
    "upright",
    "usable_cores",
]

# Pillow's decoders that may see untrusted bytes; every other one stays shut. HEIC has a decoder of its own, an extra.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_COUNTED_FORMATS = ("GIF", "TIFF")  # their frames are counted before the file is opened
_BYTES_PER_MIB = 1 << 20
_INSTALL_HEIF = "pip install 'tuwen[heif]'"

# How an image is turned for each EXIF orientation; 1, and any value that EXIF does not define, is not turned.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageLimits:
    """The limits of an image, which are checked before any pixel is decoded.

    Attributes:
        max_bytes: of the encoded image.
        max_pixels: width times height.
        max_frames: of an animation or a file of several pages, although only the first frame is decoded.
        max_parts: segments of a JPEG, chunks of a PNG, values in a directory of a TIFF, and blocks of a GIF, which may
            have one more for every 64 bytes. Pillow walks through them in Python.
        max_scans: of a JPEG; libjpeg decodes each over all pixels.
    """

    max_bytes: int = 32 * _BYTES_PER_MIB
    max_pixels: int = 64_000_000
    max_frames: int = 1_000
    max_parts: int = 20_000
    max_scans: int = 64


@dataclass(frozen=True)
class PixelRules:
    """The rules by which an image becomes pixel values. Embeddings of different rules are of different spaces.

    A repository holds these rules in ``preprocessing.json``, in its model card, in its manifest and in the fingerprint
    of its embedding space. All four are made from this class.

    Attributes:
        image_size: the side S of the square that the vision encoder takes, in pixels.
        resize: ``squash`` to that square, or ``crop`` the centre once the shortest edge has its length.
        image_rules: ``reference`` does what the model's own code does. ``display`` sees the image as a viewer
            shows it: EXIF orientation applied, transparency on white, 16-bit greys scaled instead of
            clipped, palettes expanded before the resize.
        jpeg_decoding: ``full``, or ``scaled``: of a JPEG of four times the square's side or more, only a half, a
            quarter or an eighth of the resolution is decoded, twice what the square needs at least.
    """

    image_size: int
    resize: str = "squash"
    image_rules: str = "reference"
    jpeg_decoding: str = "full"

    def pixel_rules(self) -> dict[str, Any]:
        """Return the rules by name, also those of an object that holds more than the rules."""
        return {field.name: getattr(self, field.name) for field in fields(PixelRules)}


@dataclass(frozen=True)
class Preprocessor(PixelRules):
    """The preprocessing of one embedding space, from encoded images to uint8 pixel values.

    Attributes:
        limits: which images are refused.

    Raises:
        ValueError: a rule has a value that this version does not know.
    """

    limits: ImageLimits = ImageLimits()

    def __post_init__(self) -> None:
        if self.image_rules not in ("reference", "display"):
            raise ValueError(f"image rules must be 'reference' or 'display', not {self.image_rules!r}")
        if self.resize not in ("squash", "crop"):
            raise ValueError(f"resize must be 'squash' or 'crop', not {self.resize!r}")
        if self.jpeg_decoding not in ("full", "scaled"):
            raise ValueError(f"JPEG decoding must be 'full' or 'scaled', not {self.jpeg_decoding!r}")

    def pixel_values(self, data: bytes) -> NDArray[np.uint8]:
        """Return the pixel values of one encoded image, uint8 (3, S, S), of its first frame.

        Raises:
            ItemError: the image is refused or cannot be decoded.
        """
        self._check_size(data)
        check_structure(data, self.limits)
        with _bad_images(), open_image(data) as image:
            self._check_header(image)
            # By libjpeg, in the inverse cosine transform; a HEIC file would give an embedded thumbnail instead.
            if self.jpeg_decoding == "scaled" and image.format != "HEIF":
                image.draft(None, (2 * self.image_size, 2 * self.image_size))
            square = self._square(image)
        return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))

    def square(self, image: Image.Image) -> Image.Image:
        """Return a decoded image of any mode of Pillow's as an RGB image of S x S pixels.

        A PNG file of the square has the pixel values of the image itself: a square of that size is not resized again.

        Raises:
            ItemError: the image has too many pixels, or its mode cannot be converted to RGB.
        """
        with _bad_images():
            self._check_header(image)
            return self._square(image)

    def _square(self, image: Image.Image) -> Image.Image:
        if self.image_rules == "display":
            image = _as_displayed(image)
        side = self.image_size
        if self.resize == "squash":
            resized = image.resize((side, side), Image.Resampling.BICUBIC)
        else:
            resized = self._crop(image.resize(self._shortest_edge(image.size), Image.Resampling.BICUBIC))
        if isinstance(resized.info.get("transparency"), bytes):
            del resized.info["transparency"]  # convert() does the same, with a warning
        return _convertible(resized).convert("RGB")

    def _shortest_edge(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size with the shortest edge as long as the square, as torchvision's Resize rounds it."""
        side, (width, height) = self.image_size, size
        longer = side * max(size) // min(size)
        if side * longer > self.limits.max_pixels:
            raise ItemError(
                "too_many_pixels", f"{width}x{height} is so narrow that it would be resized to {side}x{longer} pixels"
            )
        return (side, longer) if width <= height else (longer, side)

    def _crop(self, image: Image.Image) -> Image.Image:
        """Return the centre square, as torchvision's CenterCrop rounds it: halves to even."""
        side = self.image_size
        left, top = (round((edge - side) / 2) for edge in image.size)
        return image.crop((left, top, left + side, top + side))

    def _check_size(self, data: bytes) -> None:
        if not data:
            raise ItemError("empty", "no bytes")
        if len(data) > self.limits.max_bytes:
            raise ItemError("too_many_bytes", f"{len(data)} bytes, the limit is {self.limits.max_bytes}")

    def _check_header(self, image: Image.Image) -> None:
        width, height = image.size
        if width * height > self.limits.max_pixels:
            raise ItemError("too_many_pixels", f"{width}x{height} pixels, the limit is {self.limits.max_pixels}")
        if image.format in _COUNTED_FORMATS:  # Pillow would walk through the whole file, in Python
            return
        frames = getattr(image, "n_frames", 1)
        if frames > self.limits.max_frames:
            raise ItemError("too_many_frames", f"{frames} frames, the limit is {self.limits.max_frames}")


def open_image(data: bytes) -> Image.Image:
    """Open an encoded image in one of the allowed formats; its pixels are not decoded yet.

    HEIC is decoded by pillow-heif where that is installed. It turns the pixels as the file says, so that an orientation
    in the file's EXIF data no longer counts, under any image rules.

    Raises:
        ItemError: the image is HEIC, and pillow-heif is not installed.
        Exception: the image has another format, or a broken header; of whatever type Pillow's parsers raise.
    """
    if not is_heic(data):
        return Image.open(io.BytesIO(data), formats=_available_formats())
    try:
        from pillow_heif import HeifImageFile  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ItemError(
            "unsupported_format", f"HEIC needs pillow-heif where images are decoded ({error}): {_INSTALL_HEIF}"
        ) from None
    # Called directly, because Pillow's registry of decoders belongs to the application.
    decoder: Callable[[io.BytesIO], Image.Image] = HeifImageFile
    return decoder(io.BytesIO(data))


def check_structure(data: bytes, limits: ImageLimits) -> None:
    """Reject an image whose parts, frames or scans would take long, before Pillow opens the image.

    Raises:
        ItemError: ``too_many_parts``, ``too_many_frames`` or ``too_many_scans``.
    """
    parts, frames, scans = 0, 1, 1
    most = limits.max_parts
    if data.startswith(b"\xff\xd8"):
        parts, scans = jpeg_parts(data, most)
    elif data.startswith(b"\x89PNG"):
        parts = png_chunks(data, most)
    elif data.startswith(b"GIF8"):
        most += len(data) // 64
        parts, frames = gif_parts(data, most, limits.max_frames)
    elif data.startswith((b"II", b"MM")):
        parts, frames = tiff_parts(data, limits.max_frames)
    if parts > most:
        raise ItemError("too_many_parts", f"the file has more than {most} parts, which is the limit")
    if frames > limits.max_frames:
        raise ItemError("too_many_frames", f"more than {limits.max_frames} frames, which is the limit")
    if scans > limits.max_scans:
        raise ItemError("too_many_scans", f"{scans} scans, the limit is {limits.max_scans}")


def load_preprocessor(folder: Path, limits: ImageLimits) -> Preprocessor:
    """Return the preprocessor that the build step described in ``preprocessing.json``."""
    settings = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    return Preprocessor(**settings, limits=limits)


def usable_cores() -> int:
    """Return the cores that this process may run on, which in a container is fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says. An orientation that is missing or cannot be parsed turns nothing."""
    image.load()  # turns a TIFF by itself, and drops its orientation
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF: whatever the parser raises, a viewer shows the pixels as they are
        turn = None
    return image if turn is None else image.transpose(turn)


def _as_displayed(image: Image.Image) -> Image.Image:
    image = upright(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    image = _convertible(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _convertible(image: Image.Image) -> Image.Image:
    """Return the image in a mode that Pillow converts to RGB, which it does to every mode but La."""
    return image.convert("LA") if image.mode == "La" else image


@contextmanager
def _bad_images() -> Iterator[None]:
    """Turn every exception into an `ItemError`.

    Pillow raises whatever its decoders meet in a broken file (OSError, SyntaxError, struct.error, ValueError, ...), so
    here, and only here, every exception means "this image is bad".
    """
    try:
        yield
    except ItemError:
        raise
    except UnidentifiedImageError:
        raise ItemError("unsupported_format", f"not an image in one of {', '.join(_FORMATS)}, HEIC") from None
    except Image.DecompressionBombError as error:
        raise ItemError("too_many_pixels", str(error)) from None
    except Exception as error:
        raise ItemError("corrupt", f"cannot decode: {error or type(error).__name__}") from None


@functools.cache
def _available_formats() -> tuple[str, ...]:
    """Return the allowed formats that this Pillow was built with (AVIF and WebP are optional)."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)

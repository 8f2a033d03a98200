"""The conversion of encoded images to pixel values, exactly as in Chinese-CLIP and CLIP. Triton is not needed.

The rules are those of ``image_transform`` in ``cn_clip/clip/utils.py`` (``squash``: resize to a square) and of
``_transform`` in OpenAI's ``clip/clip.py`` (``crop``: resize the shortest edge, keep the centre). Both resize with
Pillow's bicubic filter, then convert to RGB, in that order. The order matters: Pillow resizes palette and 1-bit
images with the nearest neighbour. If alpha is dropped after the resize, the colour of transparent pixels is kept. The
encoder rescales and normalises the pixel values. Before the encoder, each value takes one byte.
"""

from __future__ import annotations

import functools
import io
import json
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
]

# The decoders of Pillow that may read untrusted bytes; no other decoder is used. HEIC needs an extra with a decoder.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_COUNTED_FORMATS = ("GIF", "TIFF")  # formats whose frames `check_structure` counts
_BYTES_PER_MIB = 1 << 20
_INSTALL_HEIF = "pip install 'tuwen[heif]'"

# The transposition for each EXIF orientation. An image with orientation 1 or an undefined value is not turned.
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
        max_bytes: the maximum size of the encoded image in bytes.
        max_pixels: the maximum number of pixels, which is width times height.
        max_frames: the maximum number of frames or pages, although only the first frame is decoded.
        max_parts: the maximum number of parts that Pillow reads in Python: segments of a JPEG, chunks of a PNG, values
            in the first directory of a TIFF, or blocks of a GIF. A GIF may have one more block for every 64 bytes.
        max_scans: the maximum number of scans of a JPEG. libjpeg decodes each scan over all pixels.
    """

    max_bytes: int = 32 * _BYTES_PER_MIB
    max_pixels: int = 64_000_000
    max_frames: int = 1_000
    max_parts: int = 20_000
    max_scans: int = 64


@dataclass(frozen=True)
class PixelRules:
    """The rules for converting an image to pixel values. Different rules give different embedding spaces.

    A repository holds these rules in ``preprocessing.json``, in its model card and in its manifest. The fingerprint of
    its embedding space depends on the rules. The file, the card, the manifest and the fingerprint are made from this
    class.

    Attributes:
        image_size: the side S of the square input of the vision encoder, in pixels.
        resize: the way to make the image square. ``squash`` resizes both sides to S. ``crop`` resizes the shortest edge
            to S and keeps the centre.
        image_rules: the treatment of orientation, transparency, greys and palettes. ``reference`` converts an image as
            the model's original code does. ``display`` converts an image as a viewer shows it: it applies the EXIF
            orientation, puts transparency on white, scales 16-bit greys instead of clipping them, and expands palettes
            before the resize.
        jpeg_decoding: the resolution at which a JPEG is decoded. ``full`` decodes all pixels. ``scaled`` decodes a JPEG
            whose sides are at least 4 S at a half, a quarter or an eighth of its resolution. The decoded sides are at
            least 2 S.
    """

    image_size: int
    resize: str = "squash"
    image_rules: str = "reference"
    jpeg_decoding: str = "full"

    def pixel_rules(self) -> dict[str, Any]:
        """Return the image rules as a dictionary.

        Attributes that subclasses add, such as the fields of a model card, are left out.
        """
        return {field.name: getattr(self, field.name) for field in fields(PixelRules)}


@dataclass(frozen=True)
class Preprocessor(PixelRules):
    """The preprocessing of one embedding space, from encoded images to uint8 pixel values.

    Attributes:
        limits: the limits of an image. Larger images are refused.

    Raises:
        ValueError: an image rule has an unknown value.
    """

    limits: ImageLimits = ImageLimits()

    def __post_init__(self) -> None:
        if self.image_rules not in ("reference", "display"):
            raise ValueError(f"image_rules: expected 'reference' or 'display', got {self.image_rules!r}")
        if self.resize not in ("squash", "crop"):
            raise ValueError(f"resize: expected 'squash' or 'crop', got {self.resize!r}")
        if self.jpeg_decoding not in ("full", "scaled"):
            raise ValueError(f"jpeg_decoding: expected 'full' or 'scaled', got {self.jpeg_decoding!r}")

    def pixel_values(self, data: bytes) -> NDArray[np.uint8]:
        """Return the pixel values, uint8 (3, S, S), of the first frame of an encoded image.

        Raises:
            ItemError: the image is refused or cannot be decoded.
        """
        self._check_size(data)
        check_structure(data, self.limits)
        with _bad_images(), open_image(data) as image:
            self._check_header(image)
            # libjpeg scales in the inverse cosine transform. A HEIC decoder would return an embedded thumbnail.
            if self.jpeg_decoding == "scaled" and image.format != "HEIF":
                image.draft(None, (2 * self.image_size, 2 * self.image_size))
            square = self._square(image)
        return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))

    def square(self, image: Image.Image) -> Image.Image:
        """Return a decoded image of any Pillow mode as an RGB image of S x S pixels.

        A PNG file of the result has the same pixel values as the image, because a square of S x S is not resized again.

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
            del resized.info["transparency"]  # otherwise convert() deletes it, with a warning
        return _convertible(resized).convert("RGB")

    def _shortest_edge(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size (width, height) with the shortest edge resized to S. Round as torchvision's Resize does."""
        side, (width, height) = self.image_size, size
        longer = side * max(size) // min(size)
        if side * longer > self.limits.max_pixels:
            raise ItemError(
                "too_many_pixels",
                f"the image of {width}x{height} pixels is too narrow: resizing would make {side}x{longer} pixels, "
                f"the limit is {self.limits.max_pixels}",
            )
        return (side, longer) if width <= height else (longer, side)

    def _crop(self, image: Image.Image) -> Image.Image:
        """Return the centre square of S x S pixels. Halves are rounded to even, as in torchvision's CenterCrop."""
        side = self.image_size
        left, top = (round((edge - side) / 2) for edge in image.size)
        return image.crop((left, top, left + side, top + side))

    def _check_size(self, data: bytes) -> None:
        if not data:
            raise ItemError("empty", "the image has no bytes")
        if len(data) > self.limits.max_bytes:
            raise ItemError("too_many_bytes", f"the image has {len(data)} bytes, the limit is {self.limits.max_bytes}")

    def _check_header(self, image: Image.Image) -> None:
        width, height = image.size
        if width * height > self.limits.max_pixels:
            raise ItemError(
                "too_many_pixels", f"the image has {width}x{height} pixels, the limit is {self.limits.max_pixels}"
            )
        if image.format in _COUNTED_FORMATS:  # for `n_frames`, Pillow would read the whole file in Python
            return
        frames = getattr(image, "n_frames", 1)
        if frames > self.limits.max_frames:
            raise ItemError("too_many_frames", f"the image has {frames} frames, the limit is {self.limits.max_frames}")


def open_image(data: bytes) -> Image.Image:
    """Open an encoded image in one of the allowed formats, without decoding its pixels.

    If pillow-heif is installed, it decodes HEIC. pillow-heif always turns the image to the orientation that the file
    states. So the orientation in the EXIF data has no effect, whatever the image rules are.

    Raises:
        ItemError: the image is HEIC, and pillow-heif is not installed.
        Exception: the format is not allowed, or the header is broken. The exception's type depends on Pillow's parser.
    """
    if not is_heic(data):
        return Image.open(io.BytesIO(data), formats=_available_formats())
    try:
        from pillow_heif import HeifImageFile  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ItemError(
            "unsupported_format",
            f"HEIC needs pillow-heif on the machine that decodes images ({error}): {_INSTALL_HEIF}",
        ) from None
    # The decoder is called directly, because registering it would change Pillow for the whole application.
    decoder: Callable[[io.BytesIO], Image.Image] = HeifImageFile
    return decoder(io.BytesIO(data))


def check_structure(data: bytes, limits: ImageLimits) -> None:
    """Reject an image with too many parts, frames or scans, before Pillow opens the image.

    Raises:
        ItemError: the image exceeds a limit. The reason is ``too_many_parts``, ``too_many_frames`` or
            ``too_many_scans``.
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
        raise ItemError("too_many_parts", f"the image has more than the allowed {most} parts")
    if frames > limits.max_frames:
        raise ItemError("too_many_frames", f"the image has more than the allowed {limits.max_frames} frames")
    if scans > limits.max_scans:
        raise ItemError("too_many_scans", f"the image has {scans} scans, the limit is {limits.max_scans}")


def load_preprocessor(folder: Path, limits: ImageLimits) -> Preprocessor:
    """Return the preprocessor of a repository.

    Args:
        folder: the folder that holds ``preprocessing.json``, which ``tuwen build`` wrote.
        limits: the limits of an image.
    """
    settings = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    return Preprocessor(**settings, limits=limits)


def upright(image: Image.Image) -> Image.Image:
    """Turn an image according to its EXIF orientation. A missing or invalid orientation is ignored."""
    image.load()  # Pillow turns a TIFF while loading it, and removes its orientation
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # for broken EXIF data the parser raises many types; viewers then do not turn the image
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
    """Return the image in a mode that Pillow can convert to RGB. The mode La becomes LA; any other mode stays."""
    return image.convert("LA") if image.mode == "La" else image


@contextmanager
def _bad_images() -> Iterator[None]:
    """Provide a context in which every exception is converted to an `ItemError`.

    For a broken file, Pillow's decoders raise OSError, SyntaxError, struct.error, ValueError and others. So every
    exception of the block means that the image is invalid.
    """
    try:
        yield
    except ItemError:
        raise
    except UnidentifiedImageError:
        raise ItemError(
            "unsupported_format", f"the file is not an image in a supported format ({', '.join(_FORMATS)}, HEIC)"
        ) from None
    except Image.DecompressionBombError as error:
        raise ItemError("too_many_pixels", str(error)) from None
    except Exception as error:
        raise ItemError("corrupt", f"cannot decode the image: {error or type(error).__name__}") from None


@functools.cache
def _available_formats() -> tuple[str, ...]:
    """Return the allowed formats that the installed Pillow supports. AVIF and WebP are optional in Pillow."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)

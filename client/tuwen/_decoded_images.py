"""PIL images and arrays as encoded files that have the same pixel values, and so the same vectors.

Of what a PIL image knows beyond its pixels, three things decide a vector: the EXIF orientation (where the image rules
of the model are ``display``), the transparency, and the palette. ICC profiles, comments and further frames do not.
"""

from __future__ import annotations

import io
import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen._errors import InvalidArgumentError
from tuwen.pixels import Preprocessor, upright

__all__ = ["decoded", "encoded", "snapshot"]

# Modes that come out of a file as they went in. Pillow writes more: I;16B to PNG, and RGBX to TIFF, are read as others.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_TIFF_MODES = ("CMYK", "YCbCr", "LAB", "I", "F")
_LOCKS = 64


class _Locks:
    """Locks that keep two threads from loading one PIL image at the same time."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):  # a child would wait for ever for a lock that another thread held
            os.register_at_fork(after_in_child=self._renew)

    def of(self, image: Image.Image) -> threading.Lock:
        return self._locks[id(image) // 16 % _LOCKS]

    def _renew(self) -> None:
        self._locks = [threading.Lock() for _ in range(_LOCKS)]


_locks = _Locks()


def decoded(image: Image.Image | NDArray[Any], *, turned: bool) -> Image.Image:
    """Return a private PIL image with the pixels, transparency and palette of a PIL image or an array.

    Args:
        image: a PIL image, loaded or not, which stays as it is and may be in use by other threads; or a uint8 array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        turned: turn a PIL image as its EXIF orientation says.

    Raises:
        InvalidArgumentError: the array has another type or shape.
        Exception: the PIL image is not loaded yet and its file is broken; of whatever type its decoder raises.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    with _locks.of(image):
        image.load()
        source = upright(image) if turned else image
        own = source.copy() if source is image else source
    own.info = {name: value for name, value in own.info.items() if name == "transparency"}
    return own


def encoded(image: Image.Image, preprocessor: Preprocessor | None) -> bytes:
    """Encode a private PIL image without loss: as PNG at its fastest setting, or as TIFF for modes that PNG lacks.

    An image that no file holds exactly (mode HSV, say), or only one of more bytes than a server takes, is resized and
    converted to RGB here by `preprocessor`, as the server would do it; the PNG of that square has the same vector.

    Raises:
        ImageError: the image has too many pixels, or cannot be converted to RGB.
        Exception: of whatever type Pillow's encoders raise.
    """
    if preprocessor is None or _survives_a_file(image):
        data = _written(image)
        if preprocessor is None or len(data) <= preprocessor.limits.max_bytes:
            return data
    return _written(preprocessor.square(image))


def snapshot(item: Any) -> Any:
    """Return a copy of the frame that an animated PIL image shows; any other item as it is.

    `PIL.ImageSequence` gives the same image object for each frame, and moves it on while earlier items still wait. A
    photograph with a preview or a depth map (MPO) is no animation.
    """
    if not isinstance(item, Image.Image) or not getattr(item, "is_animated", False) or item.format == "MPO":
        return item
    try:
        with _locks.of(item):
            return item.copy()
    except Exception:  # a broken frame fails as an item when it is encoded
        return item


def _written(image: Image.Image) -> bytes:
    file = io.BytesIO()
    if image.mode in _TIFF_MODES:
        image.save(file, "TIFF", compression="raw")
    else:
        image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _survives_a_file(image: Image.Image) -> bool:
    """Whether a file gives back the image exactly. A PNG holds no pixel outside its palette, and one transparency."""
    if image.mode != "P":
        return image.mode in _PNG_MODES or image.mode in _TIFF_MODES
    if image.palette is not None and image.palette.mode == "RGBA" and "transparency" in image.info:
        return False
    colours = len(image.getpalette() or ()) // 3
    highest = image.getextrema()[1]
    return isinstance(highest, int) and highest < colours


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8:
        raise InvalidArgumentError(f"an image array is uint8 from 0 to 255, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    channels_last = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not channels_last or 0 in array.shape:
        raise InvalidArgumentError(f"an image array is (H, W), (H, W, 3) or (H, W, 4), not {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))

"""Whatever a caller holds an image in, to the encoded bytes that the server takes. Lossless, always."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen._errors import InvalidArgumentError

__all__ = ["ImageInput", "UnreadableImageError", "encoded_bytes"]

ImageInput: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]"
"""An image: a path, encoded bytes (JPEG, PNG, ...), a PIL image, or a uint8 array (H, W), (H, W, 3) or (H, W, 4).

A string is always a path. PIL images and arrays are sent losslessly.
"""

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class UnreadableImageError(Exception):
    """A file that cannot be read or an image that cannot be encoded; becomes the failure of its item."""


def encoded_bytes(image: ImageInput) -> bytes:
    """The image as an encoded file.

    Raises:
        InvalidArgumentError: not a type or an array shape that is an image.
        UnreadableImageError: the file cannot be read.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise UnreadableImageError(f"cannot read {os.fspath(image)}: {error.strerror or error}") from error
    if isinstance(image, Image.Image):
        return _encode(image)
    if isinstance(image, np.ndarray):
        return _encode(_from_array(image))
    raise InvalidArgumentError(
        f"an image is a path, encoded bytes, a PIL image or a uint8 array, not {type(image).__name__}"
    )


def _encode(image: Image.Image) -> bytes:
    """PNG at its fastest setting; TIFF for the modes that PNG cannot hold (CMYK, YCbCr, LAB, float)."""
    encoded = io.BytesIO()
    try:
        if image.mode in _PNG_MODES:
            image.save(encoded, "PNG", compress_level=1)
        else:
            image.save(encoded, "TIFF")
    except Exception as error:  # a lazily opened file fails here, with whatever its decoder raises
        raise UnreadableImageError(f"cannot encode the PIL image: {error}") from error
    return encoded.getvalue()


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.dtype != np.uint8:
        raise InvalidArgumentError(f"an image array is uint8 from 0 to 255, not {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    channels_last = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not channels_last or 0 in array.shape:
        raise InvalidArgumentError(f"an image array is (H, W), (H, W, 3) or (H, W, 4), not {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))

"""Whatever a caller holds an image in, to the encoded bytes that the server takes. Lossless, always."""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen._errors import InvalidArgumentError

__all__ = ["IMAGE_SUFFIXES", "ImageInput", "UnreadableItemError", "encoded_bytes", "image_files"]

ImageInput: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]"
)
"""An image: a path, a ``data:`` URL, encoded bytes (JPEG, PNG, ...), a file opened for binary reading, a PIL image, or
a uint8 array (H, W), (H, W, 3) or (H, W, 4).

A string is a path unless it starts with ``data:``, or with ``http://`` or ``https://``, which only a client with an
`HttpFetcher` takes. A file is read from where it stands to its end, once. PIL images
and arrays are sent losslessly.
"""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


class UnreadableItemError(Exception):
    """A file that cannot be read, an image or a text that cannot be encoded; becomes the failure of its item.

    Attributes:
        reason: one word for programs.
    """

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


def encoded_bytes(image: ImageInput) -> bytes:
    """The image as an encoded file.

    Raises:
        InvalidArgumentError: not a type or an array shape that is an image.
        UnreadableItemError: the file cannot be read.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, str) and image[:5].lower() == "data:":
        return _from_data_url(image)
    if isinstance(image, str) and image.lower().startswith(("http://", "https://")):
        raise InvalidArgumentError(
            "nothing is fetched from the web unless the client has a fetcher=HttpFetcher(allow=[...])"
        )
    if isinstance(image, (str, os.PathLike)):
        try:
            return Path(image).read_bytes()
        except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
            reason = getattr(error, "strerror", None) or error
            raise UnreadableItemError(f"cannot read {os.fspath(image)[:200]!r}: {reason}") from error
    if isinstance(image, Image.Image):
        return _encode(image)
    if isinstance(image, np.ndarray):
        return _encode(_from_array(image))
    if hasattr(image, "read"):
        return _from_file(image)
    raise InvalidArgumentError(
        "an image is a path, a data: URL, encoded bytes, a binary file, a PIL image or a uint8 array, "
        f"not {type(image).__name__}"
    )


def image_files(folder: Path) -> Iterator[Path]:
    """The files in a folder, and in those below it, that are named like images; in no order."""
    return (file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)


def _from_data_url(url: str) -> bytes:
    """The bytes of a ``data:`` URL (RFC 2397), in base64 or percent-encoded."""
    head, comma, body = url.partition(",")
    if not comma:
        raise UnreadableItemError("a data: URL has a comma before its data")
    data = unquote_to_bytes(body)
    if not head.lower().endswith(";base64"):
        return data
    try:
        # without padding and in the URL-safe alphabet too, as browsers and JSON encoders write it
        text = data.translate(bytes.maketrans(b"-_", b"+/"), b" \t\r\n").rstrip(b"=")
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise UnreadableItemError(f"the data: URL is not valid base64: {error}") from error


def _from_file(file: BinaryIO) -> bytes:
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise UnreadableItemError(f"cannot read the file: {error}") from error
    if not isinstance(data, bytes):
        raise InvalidArgumentError(
            f"a file of an image is opened in binary mode ('rb'); this one gives {type(data).__name__}"
        )
    return data


def _encode(image: Image.Image) -> bytes:
    """PNG at its fastest setting; TIFF for the modes that PNG cannot hold (CMYK, YCbCr, LAB, float)."""
    encoded = io.BytesIO()
    try:
        if image.mode in _PNG_MODES:
            image.save(encoded, "PNG", compress_level=1)
        else:
            image.save(encoded, "TIFF")
    except Exception as error:  # a lazily opened file fails here, with whatever its decoder raises
        raise UnreadableItemError(f"cannot encode the PIL image: {error}") from error
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

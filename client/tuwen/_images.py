"""The lossless conversion of images in any form to the encoded bytes that the server takes.

Beside its pixels, three properties of a PIL image influence its vector: the EXIF orientation (if the image rules of the
model are ``display``), the transparency and the palette. ICC profiles, comments and further frames have no influence.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen._errors import InvalidArgumentError
from tuwen.failures import ItemError
from tuwen.pixels import Preprocessor, upright

__all__ = [
    "ImageInput",
    "check_image",
    "decoded",
    "encoded",
    "encoded_bytes",
    "is_web_url",
    "pixel_values",
    "snapshot",
]

# `pyright --verifytypes` needs this union in quotes. The command line needs the union itself, which follows below.
ImageInput: TypeAlias = (
    "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]"
)
"""An image: a path, a ``data:`` URL, encoded bytes (JPEG, PNG, ...), a file opened for binary reading, a PIL image, or
a uint8 array (H, W), (H, W, 3) or (H, W, 4).

A string that starts with ``data:``, ``http://`` or ``https://`` is an address; any other string is a path. Web
addresses need a client with an `HttpFetcher`. A file is read once, from its current position to its end. A PIL image of
any mode has the same vector as a file with the same pixels, transparency, palette and EXIF orientation. If the image is
an animation, the current frame is used.
"""

if not TYPE_CHECKING:
    ImageInput = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]

_PIECE = 1 << 20  # bytes
_MAX_BYTES = (1 << 31) - 1  # the limit of a gRPC message, whose length is a signed integer of 32 bits


def is_web_url(text: str) -> bool:
    """Return whether a string is an http or https address."""
    return text[:8].lower().startswith(("http://", "https://"))


def check_image(image: object, *, is_fetched: bool = False) -> None:
    """Check the type of an object that should be an image. No file is read.

    Args:
        image: an image in any form.
        is_fetched: whether web addresses are accepted.

    Raises:
        InvalidArgumentError: the type of the object is not supported, or the array's dtype or shape is wrong.
    """
    if isinstance(image, np.ndarray):
        _check_array(image)
    elif isinstance(image, str):
        if is_web_url(image) and not is_fetched:
            raise InvalidArgumentError("web addresses need a client with fetcher=HttpFetcher(allow=[...])")
    elif isinstance(image, io.TextIOBase):
        raise InvalidArgumentError(f"expected an image file opened in binary mode ('rb'), got {type(image).__name__}")
    elif not isinstance(image, (bytes, bytearray, memoryview, os.PathLike, Image.Image)) and not hasattr(image, "read"):
        raise InvalidArgumentError(
            "expected an image as a path, data: URL, encoded bytes, binary file, PIL image or uint8 array, "
            f"got {type(image).__name__}"
        )


def encoded_bytes(image: ImageInput, preprocessor: Preprocessor | None = None) -> bytes:
    """Return the image as an encoded file.

    If a file is larger than the limit of the preprocessor, it is refused without being read.

    Args:
        image: an image in any form.
        preprocessor: the server's preprocessor, whose rules and limits decide how `encoded` encodes a PIL image.
            None: the image rules are ``reference``. PNG or TIFF must support the mode of a PIL image. The size of a
            file is limited only by the maximum size of a gRPC message.

    Raises:
        InvalidArgumentError: the type of the object is not supported, or the array's dtype or shape is wrong.
        ItemError: the file cannot be read or is too large, or the PIL image cannot be encoded.
    """
    check_image(image)
    max_bytes = min(preprocessor.limits.max_bytes, _MAX_BYTES) if preprocessor else _MAX_BYTES
    if isinstance(image, (Image.Image, np.ndarray)):
        return _from_pixels(image, preprocessor)
    if isinstance(image, (bytes, bytearray, memoryview)):
        _check_size(memoryview(image).nbytes, max_bytes)
        return bytes(image)
    if isinstance(image, str) and image[:5].lower() == "data:":
        data = _from_data_url(image)
        _check_size(len(data), max_bytes)
        return data
    if isinstance(image, (str, os.PathLike)):
        return _from_path(image, max_bytes)
    return _from_file(image, max_bytes)


def pixel_values(image: ImageInput | bytes, preprocessor: Preprocessor) -> bytes:
    """Return the pixel values of an image, uint8 (3, S, S), as bytes.

    Args:
        image: an image in any form. PIL images and arrays are resized directly, without being encoded first.
        preprocessor: the server's preprocessor.

    Raises:
        InvalidArgumentError: the type of the object is not supported, or the array's dtype or shape is wrong.
        ItemError: the image cannot be read or decoded, or exceeds a limit of the preprocessor.
    """
    if isinstance(image, (Image.Image, np.ndarray)):
        square = preprocessor.square(_loaded(image, preprocessor))
        return np.asarray(square).transpose(2, 0, 1).tobytes()
    return preprocessor.pixel_values(encoded_bytes(image, preprocessor)).tobytes()


def _from_data_url(url: str) -> bytes:
    """Return the bytes of a ``data:`` URL (RFC 2397), in base64 or percent-encoded."""
    head, comma, body = url.partition(",")
    if not comma:
        raise ItemError("unreadable", "the data: URL has no comma before its data; expected data:image/png;base64,...")
    try:
        data = unquote_to_bytes(body)
    except UnicodeEncodeError as error:
        raise ItemError("unreadable", f"the data: URL has half a surrogate pair at position {error.start}") from error
    if not head.lower().endswith(";base64"):
        return data
    try:
        # Browsers and JSON encoders also omit the padding, or use the URL-safe alphabet.
        text = data.translate(bytes.maketrans(b"-_", b"+/"), b" \t\r\n").rstrip(b"=")
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ItemError("unreadable", f"the data: URL is not valid base64: {error}") from error


def _from_path(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            _check_size(size, max_bytes)
            pieces = [file.read(size + 1)]  # read() allocates its argument, so do not pass the limit
            read = len(pieces[0])
            while size < read <= max_bytes and pieces[-1]:  # a pipe or a device has no known size
                pieces.append(file.read(min(_PIECE, max_bytes + 1 - read)))
                read += len(pieces[-1])
            data = b"".join(pieces)
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ItemError("unreadable", f"cannot read {os.fspath(path)[:200]!r}: {reason}") from error
    _check_size(len(data), max_bytes)
    return data


def _from_file(file: BinaryIO, max_bytes: int) -> bytes:
    try:
        _check_size(_size_left(file), max_bytes)
        data = file.read()
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        raise ItemError("unreadable", f"cannot read the file: {error}") from error
    if not isinstance(data, bytes):
        raise InvalidArgumentError(
            f"expected an image file opened in binary mode ('rb'), got a file that returns {type(data).__name__}"
        )
    _check_size(len(data), max_bytes)
    return data


def _size_left(file: BinaryIO) -> int:
    """Return the number of bytes between a disk file's current position and its end; 0 for any other file object."""
    try:
        return os.fstat(file.fileno()).st_size - file.tell()
    except (AttributeError, OSError, ValueError, TypeError):
        return 0


def _check_size(size: int, max_bytes: int) -> None:
    """Refuse an image that has too many bytes. The message is the same as the server's."""
    if size > max_bytes:
        raise ItemError("too_many_bytes", f"the image has {size} bytes, the limit is {max_bytes}")


def _from_pixels(image: Image.Image | NDArray[np.uint8], preprocessor: Preprocessor | None) -> bytes:
    try:
        return encoded(_loaded(image, preprocessor), preprocessor)
    except (ItemError, InvalidArgumentError):
        raise
    except Exception as error:  # Pillow's encoders raise many types
        raise ItemError("unreadable", f"cannot encode the PIL image: {error}") from error


def _loaded(image: Image.Image | NDArray[np.uint8], preprocessor: Preprocessor | None) -> Image.Image:
    try:
        return decoded(image, turned=preprocessor is not None and preprocessor.image_rules == "display")
    except InvalidArgumentError:
        raise
    except Exception as error:  # a lazily opened file is decoded here; decoders raise many types
        raise ItemError("unreadable", f"cannot load the PIL image: {error}") from error


# Modes that Pillow writes and reads back unchanged. It reads I;16B from a PNG and RGBX from a TIFF in another mode.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_TIFF_MODES = ("CMYK", "YCbCr", "LAB", "I", "F")
_LOCKS = 64


class _Locks:
    """Locks that keep two threads from loading one PIL image at the same time."""

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):  # otherwise a forked child could wait for ever for a lock of the parent
            os.register_at_fork(after_in_child=self._renew)

    def of(self, image: Image.Image) -> threading.Lock:
        return self._locks[id(image) // 16 % _LOCKS]

    def _renew(self) -> None:
        self._locks = [threading.Lock() for _ in range(_LOCKS)]


_locks = _Locks()


def decoded(image: Image.Image | NDArray[Any], *, turned: bool) -> Image.Image:
    """Return a new PIL image with the pixels, transparency and palette of a PIL image or an array.

    Args:
        image: a PIL image, which is not changed and which other threads may use meanwhile; or a uint8 array (H, W),
            (H, W, 1), (H, W, 3) or (H, W, 4).
        turned: whether to turn a PIL image according to its EXIF orientation.

    Raises:
        InvalidArgumentError: the array's dtype or shape is wrong.
        Exception: the PIL image was opened lazily, and its file is broken. The exception's type depends on Pillow.
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
    """Encode a PIL image without loss: as PNG, or as TIFF if PNG lacks the mode.

    PNG and TIFF cannot store some modes exactly, such as HSV. Some files are larger than the server accepts. In both
    cases, `preprocessor` first resizes the image and converts it to RGB, as the server would. The PNG of the result has
    the same vector as the image.

    Args:
        image: a PIL image that no other thread uses, such as the result of `decoded`.
        preprocessor: the server's preprocessor; None: an image that cannot be stored exactly raises an error.

    Raises:
        ItemError: the image has too many pixels, or cannot be converted to RGB.
        Exception: Pillow cannot encode the image. The exception's type depends on Pillow's encoder.
    """
    if preprocessor is None or _survives_a_file(image):
        data = _written(image)
        if preprocessor is None or len(data) <= preprocessor.limits.max_bytes:
            return data
    return _written(preprocessor.square(image))


def snapshot(item: Any) -> Any:
    """Return a copy of the current frame of an animated PIL image. Return any other item unchanged.

    `PIL.ImageSequence` yields the same image object for every frame. It moves this object to the next frame while
    earlier items of a stream still wait. A photograph with a preview or a depth map (MPO) is not an animation.
    """
    if not isinstance(item, Image.Image) or not getattr(item, "is_animated", False) or item.format == "MPO":
        return item
    try:
        with _locks.of(item):
            return item.copy()
    except Exception:  # encoding a broken frame later fails as that item's error
        return item


def _written(image: Image.Image) -> bytes:
    file = io.BytesIO()
    if image.mode in _TIFF_MODES:
        image.save(file, "TIFF", compression="raw")
    else:
        image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _survives_a_file(image: Image.Image) -> bool:
    """Return whether a PNG or TIFF file keeps the image exactly.

    A palette image is kept if its palette has no alpha channel and every pixel's index lies in the palette.
    """
    if image.mode != "P":
        return image.mode in _PNG_MODES or image.mode in _TIFF_MODES
    if image.palette is not None and image.palette.mode == "RGBA" and "transparency" in image.info:
        return False
    colours = len(image.getpalette() or ()) // 3
    highest = image.getextrema()[1]
    return isinstance(highest, int) and highest < colours


def _check_array(array: NDArray[Any]) -> None:
    if array.dtype != np.uint8:
        raise InvalidArgumentError(f"expected an array of dtype uint8 (0 to 255), got {array.dtype}")
    channels_last = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not channels_last or 0 in array.shape:
        raise InvalidArgumentError(f"expected an array of shape (H, W), (H, W, 3) or (H, W, 4), got {array.shape}")


def _from_array(array: NDArray[Any]) -> Image.Image:
    _check_array(array)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))

"""The record that is stored with a picture's vector. The functions only compute: they read no file."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from tuwen.pixels import ImageLimits, check_structure, open_image, upright

__all__ = ["Picture", "describe", "picture_id", "plain_metadata", "short_hash"]

_THUMBNAIL_SIDE = 192
_THUMBNAIL_BYTES = 45_000  # as base64, it must fit into a VARCHAR of Milvus, at most 65,535 bytes
_LIMITS = ImageLimits()  # the server refuses larger pictures
_DEEPEST = 32  # maximum depth of nested metadata
_INT64 = range(-(1 << 63), 1 << 63)  # integers that Milvus can store in JSON


@dataclass(frozen=True)
class Picture:
    """One picture of a collection.

    Attributes:
        id: the picture's ID: 32 hexadecimal digits, a hash of source and name. A changed picture keeps its ID.
        source: the absolute path of the folder, list, table or archive that the picture comes from.
        name: the picture's path within the source, or its key in a table.
        version: the size and time of the file, or a hash. The version changes with the picture.
        file_size: the size of the file in bytes.
        sha256: the checksum of the file, in hexadecimal. Copies have the same checksum.
        width, height: the size in pixels after rotation by EXIF; 0 if unknown.
        thumbnail: a WebP picture of at most 192 pixels a side; empty if there is no thumbnail.
        metadata: all other values that the source has for the picture, such as the other columns of a table.
    """

    id: str
    source: str
    name: str
    version: str
    file_size: int = 0
    sha256: str = ""
    width: int = 0
    height: int = 0
    thumbnail: bytes = field(default=b"", repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def thumbnail_url(self) -> str:
        """The thumbnail as a ``data:`` URL, for a web page; empty if there is no thumbnail."""
        return f"data:image/webp;base64,{base64.b64encode(self.thumbnail).decode()}" if self.thumbnail else ""


def short_hash(text: str) -> str:
    """Return a hash of a text: 32 hexadecimal digits, which need no quoting in a filter."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def picture_id(source: str, name: str) -> str:
    """Return the ID of a picture, a hash of its source and its name."""
    return short_hash(f"{source}\0{name}")


def plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as JSON that Milvus can store. NaN and infinity become None; other types become text."""
    return {_text(str(name)): _plain(value) for name, value in metadata.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool) or (isinstance(value, int) and value in _INT64):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {_text(str(name)): _plain(item, depth + 1) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [_plain(item, depth + 1) for item in value]
    return _text(str(value))


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def describe(data: bytes, *, source: str, name: str, version: str, metadata: Mapping[str, Any]) -> Picture:
    """Return the record of a picture. If Pillow cannot decode the picture, size and thumbnail are missing."""
    width, height, thumbnail = _seen(data)
    return Picture(
        id=picture_id(source, name),
        source=source,
        name=name,
        version=version,
        file_size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        width=width,
        height=height,
        thumbnail=thumbnail,
        metadata=metadata,
    )


def _seen(data: bytes) -> tuple[int, int, bytes]:
    """Return width, height and thumbnail; zeros and no bytes if the picture cannot be decoded.

    No error is raised, because the server decides whether a picture is valid.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about odd files
            check_structure(data, _LIMITS)
            with open_image(data) as image:
                if image.width * image.height > _LIMITS.max_pixels:
                    return 0, 0, b""
                width, height = image.size
                # Many times as fast as a full decode: Pillow decodes a JPEG at a fraction of its size.
                image.draft("RGB", (2 * _THUMBNAIL_SIDE, 2 * _THUMBNAIL_SIDE))
                turned = upright(image)
                if turned.size != image.size:  # EXIF says that the camera was held upright
                    width, height = height, width
                turned.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
                return width, height, _encoded(turned)
    except Exception:  # Pillow raises many types; the vector is stored without a thumbnail
        return 0, 0, b""


def _encoded(image: Image.Image) -> bytes:
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    output = io.BytesIO()
    image.convert("RGBA" if transparent else "RGB").save(output, "WEBP", quality=75)
    return output.getvalue() if output.tell() <= _THUMBNAIL_BYTES else b""

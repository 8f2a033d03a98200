"""Small image files that cost a decoder much work. Tests make them when needed, so no folder of samples holds them."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

__all__ = ["huge_png", "jpeg_of_scans", "tiff_of_frames"]


def huge_png() -> bytes:
    """Return a PNG file of 69 bytes whose header claims 2.5 billion pixels."""
    size = (50_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", size) + _chunk(b"IDAT", b"")


def jpeg_of_scans(number: int) -> bytes:
    """Return a progressive JPEG that repeats its last scan. A decoder goes over all pixels for each scan."""
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * number + data[-2:]


def tiff_of_frames(number: int) -> bytes:
    """Return a TIFF with a chain of directories, one for each frame. Pillow follows the whole chain for every frame."""
    directories = [struct.pack("<HHHIII", 1, 256, 3, 1, 4, 8 + 18 * (index + 1)) for index in range(number)]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(directories)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

"""An image that must not lie in a folder of samples."""

from __future__ import annotations

import zlib

__all__ = ["huge_png"]


def huge_png() -> bytes:
    """Return a PNG file of 69 bytes whose header claims 2.5 billion pixels."""
    size = (50_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", size) + _chunk(b"IDAT", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

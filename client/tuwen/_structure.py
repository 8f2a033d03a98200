"""Functions that count the parts of an encoded image before Pillow opens it. This module does not depend on Triton.

Pillow reads segments, chunks, blocks and directories in Python, under the interpreter lock. libjpeg decodes every scan
of a progressive JPEG over all its pixels. So a small file can take minutes. The functions stop counting at a limit, so
that they take milliseconds for any file.
"""

from __future__ import annotations

import re
import struct

__all__ = ["gif_parts", "is_heic", "jpeg_parts", "png_chunks", "tiff_parts"]

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # no stuffed byte, fill byte or restart marker
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_IMAGE, _EXTENSION = 0x2C, 0x21
_BYTE_TYPES = (1, 2, 6, 7)  # TIFF types whose values Pillow reads all at once
_HEVC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})  # ISO/IEC 23008-12
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_MAX_BRANDS_BYTES = 1024  # the part of the `ftyp` box that is read; files have up to ten brands of four bytes


def is_heic(data: bytes) -> bool:
    """Return whether a file is a HEIF image coded with HEVC, by the brands at its beginning.

    AVIF files have the same container, but Pillow decodes them itself, so they do not count.
    """
    if data[4:8] != b"ftyp" or data[8:12] in _AVIF_BRANDS:
        return False
    end = min(int.from_bytes(data[:4], "big"), _MAX_BRANDS_BYTES)
    brands = {data[8:12], *(data[start : start + 4] for start in range(16, end, 4))}
    return not brands.isdisjoint(_HEVC_BRANDS)


def jpeg_parts(data: bytes, limit: int) -> tuple[int, int]:
    """Return the number of segments and the number of scans of a JPEG's first image.

    Args:
        data: the file.
        limit: the number of segments above which counting stops.
    """
    segments = scans = position = 0
    while segments <= limit and (found := _MARKER.search(data, position)):
        marker, position = data[found.start() + 1], found.end()
        if marker == _END_OF_IMAGE:
            break
        if marker in (_START_OF_IMAGE, 0x01):
            continue
        segments += 1
        scans += marker == _START_OF_SCAN
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return segments, scans


def png_chunks(data: bytes, limit: int) -> int:
    """Return the number of chunks of a PNG.

    Args:
        data: the file.
        limit: the number of chunks above which counting stops.
    """
    chunks, position = 0, 8
    while chunks <= limit and position + 8 <= len(data):
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        chunks += 1
    return chunks


def gif_parts(data: bytes, limit: int, max_frames: int) -> tuple[int, int]:
    """Return the number of blocks and the number of frames of a GIF.

    Args:
        data: the file.
        limit: the number of blocks above which counting stops.
        max_frames: the number of frames above which counting stops.
    """
    blocks = frames = 0
    position = 13 + _palette(data[10:11])
    while blocks <= limit and frames <= max_frames and position < len(data):
        kind = data[position]
        if kind == _IMAGE:
            frames += 1
            position += 11 + _palette(data[position + 9 : position + 10])
        elif kind == _EXTENSION:
            position += 2
        elif kind == 0x3B:
            break
        else:  # Pillow skips bytes that it does not know
            position += 1
            blocks += 1
            continue
        while blocks <= limit and position < len(data):
            blocks += 1
            size = data[position]
            position += 1 + size
            if not size:
                break
    return blocks, frames


def tiff_parts(data: bytes, max_frames: int) -> tuple[int, int]:
    """Return the number of values in a TIFF's first directory, and the number of frames of the file.

    A value that is a string of bytes counts once.

    Args:
        data: the file.
        max_frames: the number of frames above which counting stops.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, entry, header = (f"{order}Q", 20, 8) if big else (f"{order}I", 12, 4)
    count_format = f"{order}Q" if big else f"{order}H"
    values = 0
    seen: set[int] = set()
    try:
        (position,) = struct.unpack_from(offset, data, header)
        while position and position not in seen and len(seen) <= max_frames:
            (entries,) = struct.unpack_from(count_format, data, position)
            start = position + struct.calcsize(count_format)
            if not seen:
                values = _values(data, start, entries, order, big=big)
            seen.add(position)
            (position,) = struct.unpack_from(offset, data, start + entries * entry)
    except (struct.error, OverflowError):  # the file ends here, or an offset points past its end
        pass
    return values, len(seen)


def _values(data: bytes, start: int, entries: int, order: str, *, big: bool) -> int:
    size, pattern = (20, f"{order}HHQ") if big else (12, f"{order}HHI")
    number = 0
    for position in range(start, min(start + entries * size, len(data) - size + 1), size):
        _, kind, count = struct.unpack_from(pattern, data, position)
        number += 1 if kind in _BYTE_TYPES else max(1, min(count, len(data)))
    return number


def _palette(flags: bytes) -> int:
    """Return the size in bytes of the GIF palette that the flags byte describes; 0 without a palette."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0

"""Counts of the parts of encoded images, taken before Pillow opens them. Independent of Triton.

Pillow reads segments, chunks, blocks and directories in Python, under the interpreter lock. libjpeg decodes every scan
of a progressive JPEG over all its pixels. So a small file can take minutes. The counts stop at their limits, and take
milliseconds for any file.
"""

from __future__ import annotations

import re
import struct

__all__ = ["gif_parts", "is_heic", "jpeg_parts", "png_chunks", "tiff_parts"]

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither a stuffed byte, nor fill, nor a restart
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_IMAGE, _EXTENSION = 0x2C, 0x21
_BYTE_TYPES = (1, 2, 6, 7)  # of TIFF; Pillow reads such values at once
_HEVC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})  # ISO/IEC 23008-12
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_MAX_BRANDS_BYTES = 1024  # of the box that lists the brands; files have up to ten of four bytes each


def is_heic(data: bytes) -> bool:
    """Return whether the brands at the beginning of a file say that it is a HEIF image coded with HEVC.

    AVIF files have the same container, and Pillow decodes them itself.
    """
    if data[4:8] != b"ftyp" or data[8:12] in _AVIF_BRANDS:
        return False
    end = min(int.from_bytes(data[:4], "big"), _MAX_BRANDS_BYTES)
    brands = {data[8:12], *(data[start : start + 4] for start in range(16, end, 4))}
    return not brands.isdisjoint(_HEVC_BRANDS)


def jpeg_parts(data: bytes, limit: int) -> tuple[int, int]:
    """Return the number of segments and of scans of a JPEG's first image, or a number just above the limit."""
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
    """Return the number of chunks of a PNG, or a number just above the limit."""
    chunks, position = 0, 8
    while chunks <= limit and position + 8 <= len(data):
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        chunks += 1
    return chunks


def gif_parts(data: bytes, limit: int, max_frames: int) -> tuple[int, int]:
    """Return the number of blocks and of frames of a GIF.

    Counting stops when the blocks exceed `limit` or the frames exceed `max_frames`.
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
    """Return the number of values in a TIFF's first directory, and the number of its frames.

    The count of frames stops just above its limit. A value that is a string of bytes counts once.
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
    """Return the size of a palette in bytes, as the flags before it state."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0

"""Hostile images, drawn at random: broken files, false headers, huge pictures, and formats that are not allowed."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from itertools import cycle, islice
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["HOSTILE_IMAGES", "HostileImage", "good_images"]

HostileImage = Callable[[random.Random], bytes]

_FORMATS: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"quality": 80},
    "PNG": {},
    "WEBP": {"quality": 80},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_deflate"},
    "AVIF": {"quality": 60},
    "MPO": {"quality": 80},
}


def good_images(count: int, *, seed: int = 0) -> list[bytes]:
    """Return small valid pictures of all allowed formats in turn, no two equal. Equal seeds give equal pictures."""
    numbers = np.random.default_rng(seed)
    return [
        _encoded(_picture(numbers, int(numbers.integers(8, 64)), int(numbers.integers(8, 64))), name)
        for name in islice(cycle(_FORMATS), count)
    ]


def _picture(numbers: np.random.Generator, width: int, height: int) -> Image.Image:
    coarse = numbers.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **{**_FORMATS.get(name, {}), **options})
    return buffer.getvalue()


@cache
def _originals() -> list[bytes]:
    """Return the valid files that other functions damage.

    They include EXIF data, ICC profiles, progressive and animated files, 16 bits per channel, and palettes.
    """
    numbers = np.random.default_rng(1)
    picture = _picture(numbers, 48, 40)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    files = [_encoded(picture, name) for name in _FORMATS]
    files += [_encoded(picture, name, exif=exif.tobytes()) for name in ("JPEG", "PNG", "WEBP")]
    files += [_encoded(picture, name, icc_profile=b"\0" * 200) for name in ("JPEG", "PNG", "TIFF", "WEBP")]
    files += [_encoded(picture, "JPEG", progressive=True), _encoded(picture.convert("CMYK"), "JPEG")]
    frames = [_picture(numbers, 20, 20) for _ in range(4)]
    files += [_encoded(frames[0], name, save_all=True, append_images=frames[1:]) for name in ("GIF", "WEBP", "PNG")]
    files += [_encoded(picture.convert("P"), "PNG"), _encoded(picture.convert("1"), "PNG")]
    files += [_encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)), "PNG")]
    files += [_encoded(picture.convert("RGBA"), "PNG"), _encoded(picture, "TIFF", compression="tiff_lzw")]
    return files


def _flipped(choose: random.Random) -> bytes:
    """Return a valid file with a few flipped bits."""
    data = bytearray(choose.choice(_originals()))
    for _ in range(choose.choice((1, 1, 2, 4, 16, 64))):
        data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
    return bytes(data)


def _flipped_header(choose: random.Random) -> bytes:
    data = bytearray(choose.choice(_originals()))
    for _ in range(choose.choice((1, 2, 3))):
        data[choose.randrange(min(64, len(data)))] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, choose.randrange(256)))
    return bytes(data)


def _cut(choose: random.Random) -> bytes:
    data = choose.choice(_originals())
    return data[: choose.randrange(1, len(data))]


def _spliced(choose: random.Random) -> bytes:
    """Return a valid file in which a part is removed, repeated, or replaced by another file's bytes or random bytes."""
    data = bytearray(choose.choice(_originals()))
    start = choose.randrange(len(data))
    end = min(len(data), start + choose.randrange(1, 200))
    other = choose.choice(_originals())
    put = choose.choice((b"", bytes(data[start:end]) * 2, other[start:end], choose.randbytes(end - start)))
    return bytes(data[:start] + put + data[end:])


def _noise(choose: random.Random) -> bytes:
    """Return random bytes. In most cases, the first bytes of a format precede the random bytes."""
    head = choose.choice((b"", *(data[:12] for data in _originals()[: len(_FORMATS)])))
    return head + choose.randbytes(choose.choice((1, 16, 300, 4000)))


def _tiny(choose: random.Random) -> bytes:
    return choose.choice((b"", b"\0", b"\xff\xd8", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"II*\0", b"MM\0*"))


def _png(width: int, height: int, body: bytes, *, depth: int = 8, colour: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _bmp(width: int, height: int, *, depth: int = 24, compression: int = 0) -> bytes:
    header = (40, width, height, 1, depth, compression, 6, 1, 1, 0, 0)
    return b"BM" + struct.pack("<IHHI", 60, 0, 0, 54) + struct.pack("<IiiHHIIiiII", *header)


@cache
def _zeros(megabytes: int) -> bytes:
    return zlib.compress(bytes(megabytes << 20), 9)


def _bomb(choose: random.Random) -> bytes:
    """Return a small file whose decoded picture would fill the memory."""
    side = choose.choice((9_000, 30_000, 65_535))
    kind = choose.randrange(5)
    if kind == 0:
        return _png(side, side, _zeros(8))
    if kind == 1:
        screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0)
        return (
            b"GIF89a" + screen + bytes(6) + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\0;"
        )
    if kind == 2:
        lossless = struct.pack("<BI", 0x2F, 0x3FFF | 0x3FFF << 14)
        chunk = b"VP8L" + struct.pack("<I", 205) + lossless + bytes(200)
        return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk + b"\0"
    if kind == 3:
        fields = [(256, side), (257, side), (258, 8), (259, 8), (262, 1), (273, 134), (277, 1), (278, side)]
        fields.append((279, len(_zeros(8))))
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
        return b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + entries + bytes(16) + _zeros(8)
    return _bmp(side, side, depth=8, compression=1) + b"\xff\0\0\1\0\1"  # run-length encoding


def _absurd(choose: random.Random) -> bytes:
    """Return an image whose header states an impossible size: zero, negative, or the largest integer."""
    size = (choose.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF)), choose.choice((0, 0x7FFFFFFF, 0x80000000)))
    if choose.random() < 0.5:
        return _png(
            *size, zlib.compress(b"\0"), depth=choose.choice((1, 8, 16, 255)), colour=choose.choice((0, 2, 3, 9))
        )
    width, height = (value - (1 << 32) if value >= 1 << 31 else value for value in size)
    return _bmp(width, height) + bytes(6)


@cache
def _many_frames() -> tuple[bytes, ...]:
    frames = [Image.new("RGB", (2, 2), (index % 256, index // 256, 0)) for index in range(1_500)]
    animated = [_encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])]
    pages = [Image.new("1", (2, 2), index % 2) for index in range(1_500)]
    animated.append(_encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="raw"))
    return tuple(animated)


def _frames(choose: random.Random) -> bytes:
    return choose.choice(_many_frames())


def _metadata(choose: random.Random) -> bytes:
    """Return a picture whose colour profile and EXIF data are random bytes. Viewers show such pictures."""
    picture = _picture(np.random.default_rng(choose.randrange(1 << 30)), 30, 20)
    options: dict[str, Any] = {"icc_profile": choose.randbytes(choose.choice((10, 128, 5000)))}
    if choose.random() < 0.7:
        options["exif"] = (
            b"Exif\0\0" + choose.choice((b"II*\0", b"MM\0*", b"")) + choose.randbytes(choose.choice((4, 60)))
        )
    return _encoded(picture, choose.choice(("JPEG", "WEBP")), **options)


def _polyglot(choose: random.Random) -> bytes:
    """Return a picture with the content of another format before or after it, such as a ZIP archive."""
    picture = choose.choice(_originals())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("evil.html", "<script>alert(1)</script>")
    return choose.choice(
        (picture + archive.getvalue(), picture + b"<script>alert(1)</script>", b"%PDF-1.7\n" + picture, b"\n" + picture)
    )


@cache
def _shut() -> tuple[bytes, ...]:
    """Return files of formats that the server does not allow, although Pillow or other programs can open them."""
    picture = Image.new("RGB", (16, 16), "red")
    names = ("ICO", "PPM", "PCX", "TGA", "DDS", "SGI", "PDF", "EPS", "JPEG2000", "SPIDER", "XBM", "MSP", "ICNS")
    files = []
    for name in names:
        mode = {"SPIDER": "F", "XBM": "1", "MSP": "1"}.get(name, "RGB")
        size = (16, 16) if name != "ICNS" else (32, 32)
        try:
            files.append(_encoded(picture.resize(size).convert(mode), name))
        except (OSError, KeyError):  # the installed Pillow cannot write this format
            continue
    files += [
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><image href='file:///etc/passwd'/></svg>",
        b"<!DOCTYPE html><title>404</title>",
        b'{"error": "not found"}',
        b"%!PS-Adobe-3.0\n(/etc/passwd) (r) file\n",
        b"8BPS\0\1" + bytes(60),
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40),
        b"SIMPLE  =                    T" + bytes(100),
        b"\x1f\x8b\x08" + bytes(60),
    ]
    return tuple(files)


def _closed(choose: random.Random) -> bytes:
    return choose.choice(_shut())


HOSTILE_IMAGES: Mapping[str, tuple[int, HostileImage]] = {
    "bits flipped": (30, _flipped),
    "headers changed": (15, _flipped_header),
    "cut off": (15, _cut),
    "spliced": (15, _spliced),
    "noise": (8, _noise),
    "empty or a few bytes": (4, _tiny),
    "decompression bombs": (3, _bomb),
    "impossible sizes": (4, _absurd),
    "thousands of frames": (1, _frames),
    "random bytes as profile and EXIF": (5, _metadata),
    "polyglots": (5, _polyglot),
    "formats that are not allowed": (5, _closed),
}
"""By family of images: the family's share in per cent, and the function that makes an image."""

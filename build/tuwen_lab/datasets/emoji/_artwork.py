"""The pictures of a source, as PNG with a transparent background. Needs resvg_py (``tuwen[dataset]``)."""

from __future__ import annotations

import io
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from tuwen_build.errors import BuildError
from tuwen_lab.datasets.emoji._classes import Names, normalized

__all__ = ["names_of", "pictures"]

_DRAWN_AT_ONCE = 32
_INK = "#202020"  # for icons that take the colour of the surrounding text


def names_of(folder: Path) -> dict[str, str]:
    """Return an icon set's table, a mapping from code points to names; empty: the set has no table."""
    path = folder / "chars.json"
    table: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return table


def pictures(folder: Path, names: Names, side: int) -> Iterator[tuple[str, bytes]]:
    """Yield the code of each emoji once, with its picture as PNG (side, side).

    Args:
        folder: an unpacked package: an icon set of SVG bodies, or a folder of pictures named by code points.
        names: the mapping from icons' names to codes.
        side: the side of the pictures in pixels.

    Raises:
        BuildError: the package is neither an icon set nor a folder of pictures.
        ImportError: resvg_py is not installed.
    """
    if (folder / "icons.json").is_file():
        yield from _icons(folder, names, side)
    elif (folder / "assets").is_dir():
        yield from _files(folder / "assets", side)
    else:
        raise BuildError(f"{folder} is not a package of artwork: expected icons.json or a folder assets")


def _icons(folder: Path, names: Names, side: int) -> Iterator[tuple[str, bytes]]:
    content: dict[str, Any] = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    own = {name: normalized(code) for code, name in names_of(folder).items()}
    drawings: dict[str, str] = {}
    for name, icon in content["icons"].items():
        code = own.get(name) or names.code(name)
        if code is None or code in drawings:
            continue
        width, height = (icon.get(edge, content.get(edge, 16)) for edge in ("width", "height"))
        left, top = icon.get("left", 0), icon.get("top", 0)
        drawings[code] = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}" color="{_INK}">{icon["body"]}</svg>'
        )
    if len(drawings) <= _DRAWN_AT_ONCE:
        yield from ((code, _drawn(svg, side)) for code, svg in drawings.items())
        return
    # Processes, because drawing holds the interpreter lock. Spawned, because forking beside threads is not safe.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        drawn = pool.map(_drawn, drawings.values(), [side] * len(drawings), chunksize=_DRAWN_AT_ONCE)
        yield from zip(drawings, drawn, strict=True)


def _drawn(svg: str, side: int) -> bytes:
    from resvg_py import svg_to_bytes  # noqa: PLC0415 - an extra

    return _square(bytes(svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True)), side)


def _files(folder: Path, side: int) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.iterdir()):
        if path.suffix in (".png", ".webp"):
            yield normalized(path.stem), _square(path.read_bytes(), side)


def _square(data: bytes, side: int) -> bytes:
    """Return the picture in the middle of a square, as large as possible."""
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGBA")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    encoded = io.BytesIO()
    square.save(encoded, "PNG")
    return encoded.getvalue()

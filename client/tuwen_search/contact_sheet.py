"""A contact sheet: the results of a search as one picture."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tuwen_search.query import Hit

__all__ = ["contact_sheet"]

_CELL, _CAPTION, _GAP, _TITLE = 192, 40, 12, 44
_COLUMNS = 5
_PAPER, _INK, _PALE = "#ffffff", "#1c1c1e", "#8a8a8e"


def contact_sheet(hits: Sequence[Hit], title: str) -> Image.Image:
    """Return one picture with all results, the best first. Score and name stand below each result, the title on top.

    Without a Chinese font on the system, only ASCII characters are drawn.
    """
    columns = min(_COLUMNS, max(1, len(hits)))
    rows = max(1, math.ceil(len(hits) / columns))
    width = max(3, columns) * (_CELL + _GAP) + _GAP
    sheet = Image.new("RGB", (width, _TITLE + rows * (_CELL + _CAPTION + _GAP) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    write = _Pen(draw)
    write(title, (_GAP, _GAP), 20, width - 2 * _GAP, _INK)
    for number, hit in enumerate(hits):
        left = _GAP + number % columns * (_CELL + _GAP)
        top = _TITLE + _GAP + number // columns * (_CELL + _CAPTION + _GAP)
        if hit.picture.thumbnail:
            with Image.open(io.BytesIO(hit.picture.thumbnail), formats=["WEBP"]) as opened:
                thumbnail = opened.convert("RGBA")
            corner = (left + (_CELL - thumbnail.width) // 2, top + (_CELL - thumbnail.height) // 2)
            sheet.paste(thumbnail, corner, thumbnail)
        else:
            draw.rectangle((left, top, left + _CELL, top + _CELL), outline=_PALE)
        write(f"{number + 1}.  {hit.score:.3f}", (left, top + _CELL + 4), 14, _CELL, _INK)
        write(Path(hit.picture.name).name, (left, top + _CELL + 21), 12, _CELL, _PALE)
    return sheet


class _Pen:
    """A helper that draws single lines of text. A line that is too wide is cut."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw, self._file = draw, _chinese_font()

    def __call__(self, text: str, corner: tuple[int, int], size: int, width: int, color: str) -> None:
        if self._file:
            font: ImageFont.FreeTypeFont | ImageFont.ImageFont = ImageFont.truetype(self._file, size)
        else:
            font, text = ImageFont.load_default(size), text.encode("ascii", "replace").decode()
        text = " ".join(text.split())
        while text and self._draw.textlength(text, font=font) > width:
            text = text[: -2 if text.endswith("…") else -1].rstrip("…") + "…"
        self._draw.text(corner, text, font=font, fill=color)


def _chinese_font() -> str | None:
    """Return the path of a system font with Chinese characters; None if the system has no such font."""
    if shutil.which("fc-match") is None:
        return None
    command = ["fc-match", "--format", "%{file}\n%{lang}", "sans:lang=zh-cn"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    file, _, languages = done.stdout.partition("\n")
    return file if "zh-cn" in languages.split("|") else None

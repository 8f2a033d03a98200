"""The results of searches as one SVG with embedded pictures. Chinese text uses the viewer's font."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

__all__ = ["write_results"]

_SIDE, _GAP, _MARGIN, _LABEL, _CAPTION = 72, 10, 16, 92, 18
_STYLE = "font-family:'Noto Sans CJK SC','PingFang SC','Microsoft YaHei',sans-serif"


def write_results(path: Path, rows: Sequence[tuple[str, Sequence[tuple[Path, float]]]]) -> None:
    """Write two queries side by side, each with its best pictures and their cosines.

    Args:
        path: the SVG to write.
        rows: each query with PNG files and cosines, the best first.
    """
    found = max(len(pictures) for _, pictures in rows)
    width = _LABEL + found * (_SIDE + _GAP) + _MARGIN
    height = _SIDE + _CAPTION + _GAP
    lines = (len(rows) + 1) // 2
    total_width, total_height = 2 * width + _MARGIN, lines * height + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total_width}" height="{total_height}" '
        f'viewBox="0 0 {total_width} {total_height}">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for number, (query, pictures) in enumerate(rows):
        left = _MARGIN + number // lines * width
        top = _MARGIN + number % lines * height
        parts.append(
            f'<text x="{left}" y="{top + _SIDE // 2 + 8}" font-size="22" fill="#222222" style="{_STYLE}">'
            f"{escape(query)}</text>"
        )
        for place, (picture, cosine) in enumerate(pictures):
            x = left + _LABEL + place * (_SIDE + _GAP)
            content = base64.b64encode(picture.read_bytes()).decode("ascii")
            parts.append(
                f'<image x="{x}" y="{top}" width="{_SIDE}" height="{_SIDE}" href="data:image/png;base64,{content}"/>'
            )
            parts.append(
                f'<text x="{x + _SIDE // 2}" y="{top + _SIDE + _CAPTION - 4}" font-size="12" fill="#777777" '
                f'text-anchor="middle" style="{_STYLE}">{cosine:.2f}</text>'
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")

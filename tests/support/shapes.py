"""A small image-text dataset that a small model learns in seconds: coloured discs and squares with Chinese names."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

from PIL import Image, ImageDraw

__all__ = ["ARCHITECTURE", "write_shapes"]

_COLOURS = {"红色": "red", "绿色": "lime", "蓝色": "blue", "黄色": "yellow"}
_FORMS = {"圆形": "ellipse", "方块": "rectangle"}
ARCHITECTURE = {
    "projection_dim": 32,
    "vision_config": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "text_config": {
        "vocab_size": 21128,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 52,
    },
}


def write_shapes(folder: Path) -> Path:
    """Write the data set and an ``architecture.json`` into a folder, and return the folder.

    The eight kinds of shapes have six pictures each in the split ``train``, and one each in the split ``valid``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "architecture.json").write_text(json.dumps(ARCHITECTURE), encoding="utf-8")
    for split, count in (("train", 6), ("valid", 1)):
        lines, fits = [], {}
        for thing, (colour, form) in enumerate((colour, form) for colour in _COLOURS for form in _FORMS):
            for number in range(count):
                image = thing * 10 + number
                lines.append(f"{image}\t{base64.b64encode(_draw(colour, form, number + len(split))).decode()}\n")
                for text in (f"{colour}{form}", *([colour, form] if split == "train" else [])):
                    fits.setdefault(text, []).append(image)
        (folder / f"{split}_imgs.tsv").write_text("".join(lines), encoding="ascii")
        records = [
            {"text_id": row, "text": text, "image_ids": images} for row, (text, images) in enumerate(fits.items())
        ]
        content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / f"{split}_texts.jsonl").write_text(content, encoding="utf-8")
    return folder


def _draw(colour: str, form: str, number: int) -> bytes:
    picture = Image.new("RGBA", (40, 40))
    corner = 4 + number % 3
    getattr(ImageDraw.Draw(picture), _FORMS[form])([corner, corner, corner + 26, corner + 26], fill=_COLOURS[colour])
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return encoded.getvalue()

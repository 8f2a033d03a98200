"""`tuwen similarity`: which text fits which image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tuwen._cli._options import JsonOption, TimeoutOption, UrlOption, print_json, print_table
from tuwen._client import Client

__all__ = ["similarity"]


def similarity(
    image: Annotated[list[Path], typer.Option("--image", "-i", help="An image file. Repeat for more.")],
    text: Annotated[list[str], typer.Option("--text", "-t", help="A text. Repeat for more.")],
    url: UrlOption = "localhost:8001",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Compare every image with every text: cosine, and probability among the texts given."""
    with Client(url, timeout=timeout) as clip:
        scores = clip.similarity(images=image, texts=text)
    if as_json:
        print_json(
            {
                "images": [str(path) for path in image],
                "texts": text,
                "cosine": scores.cosine.tolist(),
                "logits": scores.logits.tolist(),
                "probabilities": scores.probabilities.tolist(),
            }
        )
        return
    for path, cosines, probabilities in zip(image, scores.cosine, scores.probabilities, strict=True):
        order = np.argsort(-probabilities, kind="stable")
        rows = [[text[index], f"{cosines[index]:.4f}", f"{probabilities[index]:.1%}"] for index in order]
        print_table(str(path), ["text", "cosine", "probability"], rows)

"""`tuwen similarity`: compare images with texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuwen_cli.connection import connect
from tuwen_cli.inputs import checked_texts
from tuwen_cli.options import JsonOption, ModelOption, TimeoutOption, UrlOption, print_json, print_scores

__all__ = ["similarity"]


def similarity(
    image: Annotated[list[Path], typer.Option("--image", "-i", help="Image file to compare. Repeat for more.")],
    text: Annotated[list[str], typer.Option("--text", "-t", help="Text to compare with the images. Repeat for more.")],
    url: UrlOption = "localhost:8001",
    model: ModelOption = "",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Compare every image with every text. Print each cosine, and the probability of each text among all texts."""
    checked_texts("--text", text)
    with connect(url, timeout, model=model) as clip:
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
    print_scores(image, "text", text, scores)

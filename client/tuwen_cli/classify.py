"""`tuwen classify`: assign labels to pictures, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from tuwen import InvalidArgumentError
from tuwen.zero_shot import OWN_TEMPLATES, Templates
from tuwen_cli.options import JsonOption, TimeoutOption, UrlOption, connect, print_json, print_scores

__all__ = ["classify"]


def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    label: Annotated[
        list[str], typer.Option("--label", "-l", help="A label that the pictures may show. Repeat for more.")
    ],
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="zh or en: our own texts around the label; none: the label alone; or a text of yours with {} in it. "
            "Repeat for more of yours. Default: zh."
        ),
    ] = None,
    url: UrlOption = "localhost:8001",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Print the probabilities of the labels for each picture (zero-shot classification)."""
    with connect(url, timeout) as clip:
        result = clip.classify(images, label, templates=_templates(template))
    scores = result.scores
    if as_json:
        print_json(
            {
                "images": [str(path) for path in images],
                "labels": label,
                "best": list(result.best),
                "cosine": scores.cosine.tolist(),
                "probabilities": scores.probabilities.tolist(),
            }
        )
        return
    print_scores(images, "label", label, scores)


def _templates(chosen: list[str] | None) -> Templates:
    if not chosen:
        return "zh"
    own = [name for name in chosen if name in OWN_TEMPLATES]
    if own and len(chosen) > 1:
        raise InvalidArgumentError(f"--template {own[0]} stands alone; give texts with {{}} to combine several")
    return cast(Templates, own[0]) if own else chosen

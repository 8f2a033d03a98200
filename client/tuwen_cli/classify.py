"""`tuwen classify`: assign labels to pictures, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from tuwen import InvalidArgumentError, Threshold
from tuwen.zero_shot import OWN_TEMPLATES, Templates
from tuwen_cli.connection import connect
from tuwen_cli.inputs import checked_texts, note_joined_labels, pictures_of
from tuwen_cli.options import JsonOption, ModelOption, TimeoutOption, UrlOption, print_json, print_scores, print_table

__all__ = ["classify"]


def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders that contain images at any depth.")],
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", help="Label to choose from for each picture, such as cat. Repeat for more."),
    ] = None,
    threshold: Annotated[
        Path | None,
        typer.Option(
            help="File that `tuwen calibrate` wrote. Each picture gets yes or no. Cannot be combined with --label.",
            show_default=False,
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            help="Template of the texts for a label: zh or en (built in), none (the label alone), or a text with {} in "
            "place of the label. Repeat for more texts. Default: zh."
        ),
    ] = None,
    url: UrlOption = "localhost:8001",
    model: ModelOption = "",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Print the probabilities of the labels for each picture (zero-shot classification).

    Probabilities compare the given labels with each other. To decide whether a picture shows one thing, choose a
    threshold with `tuwen calibrate` and pass its file as `--threshold`.
    """
    if bool(label) == (threshold is not None):
        raise typer.BadParameter("expected either --label, or --threshold with a file of `tuwen calibrate`")
    if threshold is not None:
        if template:
            raise typer.BadParameter(
                "--template works only with --label. The texts of --threshold come from its file; leave out --template"
            )
        _judge(pictures_of(images), Threshold.load(threshold), url, model, timeout, as_json=as_json)
        return
    label = label or []
    checked_texts("--label", label)
    note_joined_labels(label)
    if len(label) == 1:
        note = (
            "with one label the probability is always 100 % and means nothing: add labels for everything else, or "
            "choose a threshold with `tuwen calibrate`"
        )
        typer.secho(note, fg=typer.colors.YELLOW, err=True)
    images = pictures_of(images)
    with connect(url, timeout, model=model) as clip:
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


def _judge(pictures: list[Path], threshold: Threshold, url: str, model: str, timeout: float, *, as_json: bool) -> None:
    with connect(url, timeout, model=model) as clip:
        scores = threshold.scores(clip, pictures).tolist()
    accepted = [score >= threshold.cosine for score in scores]
    if as_json:
        told = {"images": [str(path) for path in pictures], "scores": scores, "accepted": accepted}
        print_json({**told, "texts": threshold.texts, "threshold": threshold.cosine})
        return
    rows = [
        [str(path), "yes" if yes else "no", f"{score:.4f}"]
        for path, score, yes in zip(pictures, scores, accepted, strict=True)
    ]
    print_table("", ["picture", " / ".join(threshold.texts), f"score (yes from {threshold.cosine:.4f})"], rows)


def _templates(chosen: list[str] | None) -> Templates:
    if not chosen:
        return "zh"
    own = [name for name in chosen if name in OWN_TEMPLATES]
    if own and len(chosen) > 1:
        raise InvalidArgumentError(
            f"--template: expected {own[0]} alone, got {len(chosen)} templates; to combine templates, write "
            "each of them as a text with {}"
        )
    return cast(Templates, own[0]) if own else chosen

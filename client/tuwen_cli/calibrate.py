"""`tuwen calibrate`: choose a threshold that decides whether pictures show something."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tuwen import Threshold
from tuwen.zero_shot import text_vector
from tuwen_cli.connection import connect
from tuwen_cli.inputs import checked_texts, pictures_of
from tuwen_cli.options import JsonOption, ModelOption, TimeoutOption, UrlOption, needs_extra, print_json, print_table
from tuwen_lab.evaluation.calibration import calibrate as choose

__all__ = ["calibrate"]

_CHANCE = 0.7


def calibrate(
    positive: Annotated[
        list[Path],
        typer.Option(
            "--positive", help="Picture, or folder of pictures, that shows what the texts describe. Repeat for more."
        ),
    ],
    negative: Annotated[
        list[Path],
        typer.Option("--negative", help="Picture, or folder of pictures, that shows something else. Repeat for more."),
    ],
    text: Annotated[
        list[str],
        typer.Option(
            "--text",
            "-t",
            help="Description of what the pictures should show. Several texts are averaged. Repeat for more.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .json file to write the threshold into.")],
    recall: Annotated[
        float | None,
        typer.Option(
            help="Wanted recall: the share of positives that are accepted. Default: 0.9, unless --precision is given."
        ),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(help="Wanted precision: the share of positives among accepted pictures.", show_default=False),
    ] = None,
    base_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of positives among the pictures to judge later. Default: the share of positives in the folders."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="The .png file to write a plot of the scores into. Needs the extra tuwen[evaluate].",
            show_default=False,
        ),
    ] = None,
    url: UrlOption = "localhost:8001",
    model: ModelOption = "",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Choose a threshold from judged pictures, for a wanted recall or precision.

    Cross-validation measures the threshold on held-out pictures. `tuwen classify --threshold`
    and `tuwen.Threshold` use the file.
    """
    checked_texts("--text", text)
    if recall is not None and precision is not None:
        raise typer.BadParameter("expected --recall or --precision, got both")
    if precision is None and recall is None:
        recall = 0.9
    wanted = {"recall": recall} if recall is not None else {"precision": precision}
    judged = [pictures_of(positive), pictures_of(negative)]
    if both := set(judged[0]) & set(judged[1]):
        raise typer.BadParameter(f"{min(both)} is both --positive and --negative")
    with connect(url, timeout, model=model) as clip:
        card = clip.model_card()
        vector = text_vector(clip, text)
        positives, negatives = (clip.embed_images(pictures) @ vector for pictures in judged)
    calibration = choose(positives, negatives, recall=recall, precision=precision, base_rate=base_rate)
    if plot is not None:
        with needs_extra("evaluate"):
            from tuwen_lab.evaluation.plots import plot_calibration

            plot_calibration(positives, negatives, calibration, plot)
    threshold = Threshold(tuple(text), calibration.cosine, card.fingerprint, card.checkpoint)
    threshold.save(output, wanted=wanted, measured=asdict(calibration))
    if as_json:
        print_json({"output": str(output), **asdict(threshold), "wanted": wanted, "measured": asdict(calibration)})
        return
    kind, value = next(iter(wanted.items()))
    typer.echo(f"threshold {calibration.cosine:.4f} for a {kind} of {value:g}, written to {output}")
    rows = [
        ["recall (positives that are accepted)", str(calibration.recall)],
        ["false positives (negatives that are accepted)", str(calibration.false_positive_rate)],
        [f"precision, if {calibration.base_rate:.1%} of the pictures are positives", str(calibration.precision)],
    ]
    judged_numbers = f"on {calibration.positives:,} positives and {calibration.negatives:,} negatives, cross-validated"
    print_table("", ["measured", f"value (95 % interval), {judged_numbers}"], rows)
    if calibration.ranking < _CHANCE:
        typer.secho(
            f"the texts hardly separate the pictures: a positive scores higher than a negative in "
            f"{calibration.ranking:.0%} of the cases (chance: 50 %). Try other texts",
            fg=typer.colors.YELLOW,
            err=True,
        )
    typer.echo(f"try: tuwen classify {shlex.quote(str(negative[0]))} --threshold {shlex.quote(str(output))}", err=True)

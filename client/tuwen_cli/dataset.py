"""`tuwen dataset`: make image-text data for training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuwen_cli.options import JsonOption, needs_extra, print_json, print_table

__all__ = ["dataset"]

dataset = typer.Typer(no_args_is_help=True, help="Make image-text data for training and evaluation.")


@dataset.callback()
def _dataset() -> None:
    """Let Typer keep `emoji` as a subcommand, although the group has only one command."""


@dataset.command("emoji")
def emoji(
    output: Annotated[Path, typer.Argument(help="Folder to write the data set into.")],
    cache: Annotated[Path, typer.Option(help="Folder in which fetched packages are cached.")] = Path(".cache/npm"),
    side: Annotated[int, typer.Option(min=16, max=1024, help="Width and height of the pictures, in pixels.")] = 128,
    force: Annotated[bool, typer.Option("--force", help="Replace a data set that this command made earlier.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a data set of emoji artwork with Chinese names and keywords, in the formats of Chinese-CLIP.

    The emoji of Firefox OS are for validation, those of Twemoji and OpenMoji for tests, and all others for training.
    Pictures and names come from npm packages of fixed versions. `sources.json` records versions and licences.
    """
    with needs_extra("dataset"):
        import resvg_py  # noqa: F401 - needed in the end: better missed now

        from tuwen_lab.datasets.emoji import SOURCES, build_emoji_dataset

    def show(name: str) -> None:
        if not as_json:
            typer.echo(f"  {name}", err=True)

    summary = build_emoji_dataset(output, cache, side=side, force=force, progress=show)
    if as_json:
        print_json({"classes": summary.classes, "pictures": dict(summary.pictures), "texts": dict(summary.texts)})
        return
    rows = [[source.name, source.split, source.licence, str(summary.pictures[source.name])] for source in SOURCES]
    print_table(f"{output}: {summary.classes} emoji", ["artwork", "split", "licence", "pictures"], rows)

"""`tuwen dataset`: image-text data to train and to evaluate on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuwen_cli.options import JsonOption, needs_extra, print_json, print_table

__all__ = ["dataset"]

dataset = typer.Typer(no_args_is_help=True, help="Make image-text data to train and to evaluate on.")


@dataset.callback()
def _dataset() -> None:
    """Keeps `emoji` a command of its own while it is the only one."""


@dataset.command("emoji")
def emoji(
    output: Annotated[Path, typer.Argument(help="The folder to write the splits into.")],
    cache: Annotated[Path, typer.Option(help="Where fetched packages are kept.")] = Path(".cache/npm"),
    side: Annotated[int, typer.Option(min=16, max=1024, help="Side of the pictures, in pixels.")] = 128,
    as_json: JsonOption = False,
) -> None:
    """Emoji artwork of many makers with Chinese names and keywords, in the formats of Chinese-CLIP.

    Some makers' pictures are for training, one's for validation, two others' are held out for tests. Pictures and
    names come from npm packages of fixed versions, fetched with npm; `sources.json` records versions and licences.
    """
    with needs_extra("dataset"):
        import resvg_py  # noqa: F401 - needed in the end: better missed now

        from tuwen_lab.datasets.emoji import SOURCES, build_emoji_dataset

    def show(name: str) -> None:
        if not as_json:
            typer.echo(f"  {name}", err=True)

    summary = build_emoji_dataset(output, cache, side=side, progress=show)
    if as_json:
        print_json({"classes": summary.classes, "pictures": dict(summary.pictures), "texts": dict(summary.texts)})
        return
    rows = [[source.name, source.split, source.licence, str(summary.pictures[source.name])] for source in SOURCES]
    print_table(f"{output}: {summary.classes} emoji", ["artwork", "split", "licence", "pictures"], rows)

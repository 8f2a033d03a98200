"""Options that several commands share, and functions that print results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from tuwen import MissingExtraError, Similarity
from tuwen_cli.parameters import typer_option
from tuwen_options import MODEL, TIMEOUT, URL

__all__ = [
    "JsonOption",
    "ModelOption",
    "ShowIgnoredOption",
    "SkipBadRowsOption",
    "TimeoutOption",
    "UrlOption",
    "needs_extra",
    "print_json",
    "print_scores",
    "print_table",
    "printable",
    "say_skipped_rows",
]

UrlOption = Annotated[str, typer_option(URL)]
ModelOption = Annotated[str, typer_option(MODEL)]
TimeoutOption = Annotated[float, typer_option(TIMEOUT)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
ShowIgnoredOption = Annotated[
    bool,
    typer.Option(
        "--show-ignored",
        help="Print the name of each skipped file. Default: the number of skipped files of each suffix.",
    ),
]
SkipBadRowsOption = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave out invalid rows of the data set, and print their number.")
]
_ROWS_SHOWN = 10


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Turn a failed import into an error that names the missing extra.

    Args:
        name: the name of the command, which is also the name of the extra.

    Raises:
        MissingExtraError: an import failed. The message names the extra to install.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"`tuwen {name}` needs an extra ({error}): pip install 'tuwen[{name}]'") from error


def print_json(content: dict[str, Any]) -> None:
    """Print a JSON object, with Chinese characters as they are."""
    typer.echo(printable(json.dumps(content, ensure_ascii=False)))


def printable(text: str) -> str:
    """Return a text that can be printed: bytes of a file's name that are not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def say_skipped_rows(skipped: list[str]) -> None:
    """Print on standard error how many rows of a data set were skipped, and the reasons for the first ten."""
    for reason in skipped[:_ROWS_SHOWN]:
        typer.secho(reason, fg=typer.colors.YELLOW, err=True)
    if skipped:
        typer.secho(f"{len(skipped):,} bad rows were skipped", fg=typer.colors.YELLOW, err=True)


def print_scores(images: list[Path], column: str, names: list[str], scores: Similarity) -> None:
    """Print a table of scores for each image, the best first."""
    for path, cosines, probabilities in zip(images, scores.cosine, scores.probabilities, strict=True):
        order = np.argsort(-probabilities, kind="stable")
        rows = [[names[index], f"{cosines[index]:.4f}", f"{probabilities[index]:.1%}"] for index in order]
        print_table(str(path), [column, "cosine", "probability"], rows)


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table. Chinese characters count as two columns. Without a terminal, lines are not wrapped."""
    if title:
        typer.echo(title)
    table = Table()
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = 10_000
    console.print(table, markup=False)

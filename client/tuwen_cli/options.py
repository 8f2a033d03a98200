"""Options that several commands share, and functions that print results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import tuwen
from tuwen import Client, MissingExtraError, Preprocess, Similarity, Tls
from tuwen.connection import headers_of
from tuwen_cli.parameters import typer_option
from tuwen_options import TIMEOUT, URL

__all__ = [
    "JsonOption",
    "ShowIgnoredOption",
    "SkipBadRowsOption",
    "TimeoutOption",
    "UrlOption",
    "connect",
    "connection",
    "needs_extra",
    "print_json",
    "print_scores",
    "print_table",
    "printable",
    "say_skipped_rows",
    "settings",
]

UrlOption = Annotated[str, typer_option(URL)]
TimeoutOption = Annotated[float, typer_option(TIMEOUT)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
ShowIgnoredOption = Annotated[
    bool,
    typer.Option("--show-ignored", help="List every skipped file, instead of counting them by suffix."),
]
SkipBadRowsOption = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave out invalid rows of the data set, and report how many.")
]
_ROWS_SHOWN = 10

_connection: ContextVar[Callable[[], tuple[Tls | None, dict[str, str]]]] = ContextVar("_connection")


def _show_version(shown: bool) -> None:
    if shown:
        typer.echo(f"tuwen {tuwen.__version__}")
        raise typer.Exit


def connection(
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt, trusting the system's authorities.")] = False,
    ca: Annotated[
        Path | None, typer.Option(envvar="TUWEN_CA", help="Encrypt, trusting the authorities in this PEM file.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(envvar="TUWEN_CERTIFICATE", help="The client's certificate, for mutual TLS (PEM).")
    ] = None,
    key: Annotated[Path | None, typer.Option(envvar="TUWEN_KEY", help="The key of --certificate (PEM).")] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            help="'name: value', sent with every request, such as a token. Repeat for more; TUWEN_HEADERS "
            "in the environment holds one a line, and shows in no list of processes."
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - `_show_version` ends the command
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """图文 tuwen: CLIP embeddings for Chinese images and text, on Triton."""
    encrypted = tls or ca or certificate or key
    lines = [*os.environ.get("TUWEN_HEADERS", "").splitlines(), *(header or [])]
    # checked when a command connects: `tuwen serve` starts with any client's variables in the environment
    _connection.set(lambda: (Tls(ca, certificate, key) if encrypted else None, headers_of(lines)))


def settings() -> tuple[Tls | None, dict[str, str]]:
    """Return the settings that stand before the command: encryption and headers.

    Raises:
        InvalidArgumentError: a certificate without its key, or a header without a colon.
    """
    return _connection.get()()


def connect(url: str, timeout: float, *, preprocess: Preprocess = "server") -> Client:
    """Return a client with the options before the command."""
    tls, headers = settings()
    return Client(url, timeout=timeout, tls=tls, headers=headers, preprocess=preprocess)


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Guard the imports of a command whose extra has the same name.

    Raises:
        MissingExtraError: an import failed. The message says what to install.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(f"`tuwen {name}` needs an extra ({error}): pip install 'tuwen[{name}]'") from error


def print_json(content: dict[str, Any]) -> None:
    """Print a JSON object, without escapes for Chinese."""
    typer.echo(printable(json.dumps(content, ensure_ascii=False)))


def printable(text: str) -> str:
    """Return a text that can be printed, with escapes for the bytes of a file's name that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def say_skipped_rows(skipped: list[str]) -> None:
    """Print the number of skipped rows of a data set, and the first rows, on standard error."""
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
    """Print a table. Chinese characters count as two columns. Lines are not wrapped in a pipe."""
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

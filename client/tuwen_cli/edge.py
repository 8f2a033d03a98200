"""`tuwen edge`: serve embeddings in the HTTP APIs of other tools. `tuwen edge-key`: make an API key."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tuwen_cli.connection import settings
from tuwen_cli.parameters import expand_options
from tuwen_edge import EdgeOptions

__all__ = ["edge", "edge_key", "warn_of_open_edge"]


@expand_options
def edge(options: EdgeOptions) -> None:
    """Serve embeddings in the HTTP APIs of OpenAI, Cohere, Jina, Weaviate and MT-Photos.

    The embedding server may start later. After Ctrl-C or SIGTERM, requests in flight are finished.
    """
    from tuwen_edge import run_edge

    tls, headers = settings()
    warn_of_open_edge(options)
    with suppress(KeyboardInterrupt):
        run_edge(
            replace(options, tls=tls, headers=headers),
            say=lambda address: typer.echo(f"{address}/v1/embeddings answers for {options.url}", err=True),
        )
    typer.echo("stopped", err=True)


def edge_key(
    name: Annotated[str, typer.Argument(help="Name of the key. The log shows this name, and never the key.")],
    file: Annotated[
        Path | None, typer.Option(help="File to append the key's hash to. Default: the hash is printed.")
    ] = None,
) -> None:
    """Make an API key for `tuwen edge --keys`. The file of keys contains only the hash; the key is shown once."""
    from tuwen_edge.keys import new_key

    key, line = new_key(name)
    if file is None:
        typer.echo(f"{key}\n{line}")
        return
    with file.open("a", encoding="utf-8") as opened:
        opened.write(f"{line}\n")
    typer.echo(key)


def warn_of_open_edge(options: EdgeOptions) -> None:
    """Print a warning if other machines may use the edge without a key."""
    if options.exposed and options.keys is None:
        typer.secho(
            "warning: other machines may use the HTTP edge without a key; require a key with --keys",
            fg=typer.colors.YELLOW,
            err=True,
        )

"""`tuwen server`: install the embedded tritonserver."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuwen_cli.options import needs_extra

__all__ = ["ensure_server", "server"]

server = typer.Typer(no_args_is_help=True, help="Install the embedded tritonserver.")


@server.callback()
def _group() -> None:
    """Install the embedded tritonserver."""


@server.command()
def install(
    *,
    wheels: Annotated[
        Path | None,
        typer.Option(help="Folder of wheels to install from, without network access."),
    ] = None,
    missing: Annotated[
        bool, typer.Option("--if-missing", help="Do nothing if the server is already installed for this Python.")
    ] = False,
) -> None:
    """Install NVIDIA's tritonserver, and numpy for its Python models, with pip. Pip checks the hash of each wheel.

    Both are installed in the user's cache, or in the folder that TUWEN_SERVER_FOLDER names. The environment of this
    command is not changed.
    """
    with needs_extra("serve"):
        from tuwen_server import ensure_installed, install_server
    install_it = ensure_installed if missing else install_server
    typer.echo(str(install_it(wheels, say=_say).folder))


def ensure_server() -> None:
    """Install the embedded server if it is missing. Announce the installation on standard error.

    Raises:
        MissingExtraError: the extra `serve` is missing.
        ServeError: the server does not run here, or it could not be installed.
    """
    with needs_extra("serve"):
        from tuwen_server import ensure_installed
    ensure_installed(say=_say)


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)

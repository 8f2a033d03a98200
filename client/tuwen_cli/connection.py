"""The options before the command, which describe the connection to a server."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from tuwen import Client, Preprocess, Tls

__all__ = ["connect", "connection", "settings"]

Settings: TypeAlias = "tuple[Tls | None, dict[str, str]]"

_connection: ContextVar[Callable[[], Settings]] = ContextVar("_connection")


def _show_version(shown: bool) -> None:
    if shown:
        import tuwen

        typer.echo(f"tuwen {tuwen.__version__}")
        raise typer.Exit


def connection(
    tls: Annotated[
        bool, typer.Option("--tls", help="Encrypt the connection, and trust the system's certificate authorities.")
    ] = False,
    ca: Annotated[
        Path | None,
        typer.Option(
            envvar="TUWEN_CA", help="Encrypt the connection, and trust the certificate authorities in this PEM file."
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(envvar="TUWEN_CERTIFICATE", help="PEM file with the client's certificate, for mutual TLS."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(envvar="TUWEN_KEY", help="PEM file with the private key of --certificate.")
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            help="Header of every request as 'name: value', such as a token. Repeat for more. For secrets, use "
            "TUWEN_HEADERS with one header in each line: `ps` shows a command's options to every user of the machine."
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - `_show_version` ends the command
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """图文 tuwen: CLIP embeddings for Chinese images and text, on Triton."""
    encrypted = tls or ca or certificate or key
    lines = [*os.environ.get("TUWEN_HEADERS", "").splitlines(), *(header or [])]
    # Checked later, when a command connects: `tuwen serve` must start although a client's variables are invalid.
    _connection.set(lambda: _checked(lines, (ca, certificate, key) if encrypted else None))


def settings() -> Settings:
    """Return the settings from the options before the command: encryption and headers.

    Raises:
        InvalidArgumentError: a certificate has no key, or a header has no colon.
    """
    return _connection.get()()


def connect(url: str, timeout: float, *, model: str = "", preprocess: Preprocess = "server") -> Client:
    """Return a client of a server's model with the settings from the options before the command."""
    from tuwen import Client

    tls, headers = settings()
    return Client(url, model=model, timeout=timeout, tls=tls, headers=headers, preprocess=preprocess)


def _checked(lines: list[str], files: tuple[Path | None, Path | None, Path | None] | None) -> Settings:
    from tuwen import Tls
    from tuwen.connection import headers_of

    return Tls(*files) if files else None, headers_of(lines)

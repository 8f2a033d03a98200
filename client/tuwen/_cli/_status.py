"""`tuwen status`: is the server there, and what does it serve."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tuwen._cli._options import JsonOption, TimeoutOption, UrlOption, print_json, print_table
from tuwen._client import Client

__all__ = ["status"]


def status(url: UrlOption = "localhost:8001", timeout: TimeoutOption = 5.0, as_json: JsonOption = False) -> None:
    """Show whether a server is ready and its model card. Exits with 1 when it is not ready."""
    with Client(url, timeout=timeout) as clip:
        ready = clip.is_ready(timeout=timeout)
        card = asdict(clip.model_card()) if ready else None
    if as_json:
        print_json({"url": url, "ready": ready, "model_card": card})
    elif card is None:
        typer.echo(f"{url} is not ready")
    else:
        rows = [
            [name.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value)]
            for name, value in card.items()
        ]
        print_table("", [url, "ready"], rows)
    if not ready:
        raise typer.Exit(1)

"""`tuwen web`: a page on which people find pictures of a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuwen.addresses import bracketed
from tuwen_cli.options import TimeoutOption, UrlOption, connect, settings
from tuwen_cli.search import StoreOption

__all__ = ["web"]


def web(
    collection: Annotated[str, typer.Argument(help="One that `tuwen index` made.")],
    pictures: Annotated[
        list[Path] | None,
        typer.Option(
            "--pictures", help="A folder whose pictures are shown in full size, not as thumbnails. Repeat for more."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. The page has no password: open it to others with care.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name under which browsers reach the page, such as that of a proxy. IP addresses and localhost are "
            "allowed anyway. Repeat for more."
        ),
    ] = None,
    language: Annotated[str, typer.Option(help="zh or en, until a visitor chooses.")] = "zh",
    upload_mib: Annotated[int, typer.Option(min=1, max=32, help="How large a picture to search with may be.")] = 16,
    example: Annotated[
        list[str] | None, typer.Option(help="A text that visitors are offered. Repeat for more.")
    ] = None,
    store: StoreOption = None,
    url: UrlOption = "localhost:8001",
    timeout: TimeoutOption = 20.0,
) -> None:
    """Serve a page on which people find pictures, by words, by a picture, or by both. It changes nothing."""
    from tuwen_search import Collection
    from tuwen_search.web import WebOptions, serve

    if language not in ("zh", "en"):
        raise typer.BadParameter(f"--language is zh or en, not {language}")
    tls, headers = settings()
    options = WebOptions(
        collection=collection,
        store=store,
        url=url,
        tls=tls,
        headers=headers,
        host=host,
        port=port,
        allowed_hosts=tuple(allowed_host or ()),
        language="en" if language == "en" else "zh",
        folders=tuple(pictures or ()),
        upload_mib=upload_mib,
        examples=tuple(example or ()),
        timeout=timeout,
    )
    with connect(url, timeout) as clip, Collection.open(collection, clip, store=store) as opened:
        typer.echo(
            f"{collection}: {opened.count():,} pictures, http://{bracketed(host)}:{port}"
        )  # or why it cannot be served
    serve(options)

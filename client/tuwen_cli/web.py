"""`tuwen web`: serve a page on which people search the pictures of a collection."""

from __future__ import annotations

from dataclasses import replace

import typer

from tuwen.connection import bracketed
from tuwen_cli.connection import connect, settings
from tuwen_cli.parameters import expand_options
from tuwen_search import Collection
from tuwen_search.cutoff import threshold_of
from tuwen_search.web import WebOptions

__all__ = ["web"]


@expand_options
def web(options: WebOptions) -> None:
    """Serve a page on which people find pictures by words, by a picture, or by both. The page is read-only."""
    from tuwen_search.web import serve

    tls, headers = settings()
    options = replace(options, tls=tls, headers=headers)
    with (  # fails here, before the page starts, if the collection or the threshold cannot be used
        connect(options.url, options.timeout, model=options.model) as clip,
        Collection.open(options.collection, clip, store=options.store) as opened,
    ):
        if options.threshold is not None:
            threshold_of(options.threshold, opened.space.fingerprint)
        address = f"http://{bracketed(options.host)}:{options.port}"
        typer.echo(f"{options.collection}: {opened.count():,} pictures, {address}")
    serve(options)

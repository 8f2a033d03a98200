"""Serving the demo's gallery on the page of `tuwen web`."""

from __future__ import annotations

import shutil
from pathlib import Path

from tuwen import Client
from tuwen.connection import bracketed
from tuwen_lab.demo import GALLERY
from tuwen_search import Collection
from tuwen_search.web import WebOptions, serve
from tuwen_server import EmbeddedServer, ServerOptions

__all__ = ["serve_page"]

_EXAMPLES = ("企鹅", "红色的水果", "下雨", "交通工具")


def serve_page(repository: Path, store: Path) -> None:
    """Index the gallery again with a built repository, and serve the page until an interrupt.

    Raises:
        TuwenError: the server, the collection or the page cannot be started. The message says what to do.
    """
    shutil.rmtree(store, ignore_errors=True)
    with EmbeddedServer(repository, ServerOptions.on_free_ports()) as server:
        with Client(server.grpc_url) as clip, Collection.open("demo", clip, store=str(store), create=True) as pictures:
            pictures.add(GALLERY)
        options = WebOptions("demo", store=str(store), url=server.grpc_url, folders=(GALLERY,), examples=_EXAMPLES)
        print(f"http://{bracketed(options.host)}:{options.port}, until Ctrl-C", flush=True)  # noqa: T201
        serve(options)

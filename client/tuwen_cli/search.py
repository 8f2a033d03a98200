"""`tuwen search`: find pictures of a collection by words, by a picture, or by both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuwen import InvalidArgumentError
from tuwen_cli.options import JsonOption, TimeoutOption, UrlOption, connect, print_json, print_table
from tuwen_cli.parameters import expand_options, typer_option
from tuwen_search import Query
from tuwen_search.store import STORE

if TYPE_CHECKING:
    from tuwen_search import Results

__all__ = ["StoreOption", "search"]

StoreOption = Annotated[str | None, typer_option(STORE)]


@expand_options
def search(
    collection: Annotated[str, typer.Argument(help="Collection that `tuwen index` made.")],
    query: Query,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Number of pictures on a page.")] = 10,
    page: Annotated[int, typer.Option(min=1, help="Number of the page.")] = 1,
    where: Annotated[str, typer.Option(help='A filter, such as: price < 100 and name like "cats/%"')] = "",
    show: Annotated[
        Path | None, typer.Option(help="Write the results as a contact sheet into this .png file.", show_default=False)
    ] = None,
    store: StoreOption = None,
    url: UrlOption = "localhost:8001",
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Find pictures by words, by a picture, or by both.

    A score is the cosine with the query. A good score is 0.2 to 0.5 between words and pictures, and up to 1 between
    pictures. The other columns are the cosines with each part of the query.
    """
    from tuwen_search import Collection
    from tuwen_search.contact_sheet import contact_sheet

    if show is not None and show.suffix.lower() != ".png":
        raise typer.BadParameter(f"--show writes a .png file, not {show.name}")
    with connect(url, timeout) as clip, Collection.open(collection, clip, store=store) as pictures:
        found = pictures.search(query, limit=limit, offset=(page - 1) * limit, where=where)
    if show is not None:
        title = " + ".join(
            part for part in (query.text, query.image.name if isinstance(query.image, Path) else "") if part
        )
        try:
            contact_sheet(found.hits, " - ".join((title, *query.without))).save(show)
        except OSError as error:
            raise InvalidArgumentError(f"cannot write {show}: {error.strerror or error}") from error
    if as_json:
        _print_json(collection, found)
    elif not found.hits:
        typer.echo("no pictures were found")
    else:
        names = list(found.hits[0].parts)
        rows = []
        for hit in found.hits:
            cosines = [f"{hit.parts[name]:.3f}" for name in names]
            rows.append([str(Path(hit.picture.source, hit.picture.name)), f"{hit.score:.3f}", *cosines])
        print_table("", ["picture", "score", *names], rows)
        spent = f"{found.embedding_seconds * 1e3:.0f} ms to embed, {found.store_seconds * 1e3:.0f} ms to find"
        typer.echo(f"{spent}{f'; {show}' if show else ''}", err=True)


def _print_json(collection: str, found: Results) -> None:
    hits = [
        {
            "id": hit.picture.id,
            "source": hit.picture.source,
            "name": hit.picture.name,
            "score": hit.score,
            "parts": hit.parts,
            "file_size": hit.picture.file_size,
            "width": hit.picture.width,
            "height": hit.picture.height,
            "sha256": hit.picture.sha256,
            "metadata": dict(hit.picture.metadata),
        }
        for hit in found.hits
    ]
    seconds = {"embedding_seconds": found.embedding_seconds, "store_seconds": found.store_seconds}
    print_json({"collection": collection, "hits": hits, **seconds})

"""`tuwen search`: find pictures of a collection by words, by a picture, or by both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuwen_cli.connection import connect
from tuwen_cli.options import JsonOption, ModelOption, TimeoutOption, UrlOption, print_json, print_table
from tuwen_cli.parameters import expand_options, typer_option
from tuwen_files.replacing import replacing
from tuwen_search import Query
from tuwen_search.cutoff import THRESHOLD, threshold_of
from tuwen_search.store import STORE

if TYPE_CHECKING:
    from tuwen_search import Results

__all__ = ["StoreOption", "search"]

StoreOption = Annotated[str | None, typer_option(STORE)]


@expand_options
def search(
    collection: Annotated[str, typer.Argument(help="Name of a collection that `tuwen index` made.")],
    query: Query,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Number of pictures on a page.")] = 10,
    page: Annotated[int, typer.Option(min=1, help="Number of the page, from 1.")] = 1,
    where: Annotated[
        str, typer.Option(help='Filter on the metadata, such as: price < 100 and name like "cats/%"')
    ] = "",
    min_score: Annotated[
        float | None,
        typer.Option(
            help="Minimum score: pictures with a smaller score are left out. This overrides --threshold.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[Path | None, typer_option(THRESHOLD)] = None,
    show_ids: Annotated[bool, typer.Option("--show-ids", help="Print the ID of each picture, for --like.")] = False,
    show: Annotated[
        Path | None, typer.Option(help="Write the results as a contact sheet into this .png file.", show_default=False)
    ] = None,
    store: StoreOption = None,
    url: UrlOption = "localhost:8001",
    model: ModelOption = "",
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Find pictures by words, by a picture, or by both.

    A score is the cosine with the query. A good score depends on the model: often 0.2 to 0.5 between words and
    pictures, and up to 1 between pictures. The other columns are the cosines with each part of the query.
    """
    from tuwen_search import Collection
    from tuwen_search.contact_sheet import contact_sheet

    if show is not None and show.suffix.lower() != ".png":
        raise typer.BadParameter(f"--show: expected a .png file, got {show.name}")
    with connect(url, timeout, model=model) as clip, Collection.open(collection, clip, store=store) as pictures:
        if threshold is not None and min_score is None:
            cutoff = threshold_of(threshold, pictures.space.fingerprint).cosine
            if query.text_alone:
                min_score = cutoff
            else:
                _note("--threshold was not used, because it only applies to a search for a text alone; see --min-score")
        found = pictures.search(query, limit=limit, offset=(page - 1) * limit, where=where)
    for text in found.truncated:
        _note(f"'{text}' is too long; only its beginning was used")
    best = found.hits[0].score if found.hits else None
    if min_score is not None:
        found = _without_weak(found, min_score)
    if show is not None:
        title = " + ".join(
            part for part in (query.text, query.image.name if isinstance(query.image, Path) else "") if part
        )
        with replacing(show) as scratch:
            contact_sheet(found.hits, " - ".join((title, *query.without))).save(scratch, "PNG")
    if as_json:
        _print_json(collection, found, min_score)
    elif not found.hits:
        weak = best is not None and min_score is not None
        typer.echo(
            f"nothing fits: the best score is {best:.3f}, below {min_score:.3f}" if weak else "no pictures were found"
        )
    else:
        _print_hits(found, show_ids=show_ids)
        spent = f"{found.embedding_seconds * 1e3:.0f} ms to embed, {found.store_seconds * 1e3:.0f} ms to find"
        typer.echo(f"{spent}{f'; {show}' if show else ''}", err=True)


def _without_weak(found: Results, min_score: float) -> Results:
    """Return the results without the pictures whose score is smaller than the minimum."""
    hits = tuple(hit for hit in found.hits if hit.score >= min_score)
    if hits and len(hits) < len(found.hits):
        _note(f"pictures with a score below {min_score:.3f} are left out")
    return replace(found, hits=hits)


def _note(text: str) -> None:
    typer.secho(text, fg=typer.colors.YELLOW, err=True)


def _print_hits(found: Results, *, show_ids: bool) -> None:
    names = list(found.hits[0].parts)
    rows = []
    for hit in found.hits:
        cosines = [f"{hit.parts[name]:.3f}" for name in names]
        shown_id = [hit.picture.id] if show_ids else []
        rows.append([str(Path(hit.picture.source, hit.picture.name)), f"{hit.score:.3f}", *cosines, *shown_id])
    print_table("", ["picture", "score", *names, *(["id"] if show_ids else [])], rows)


def _print_json(collection: str, found: Results, min_score: float | None) -> None:
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
    print_json(
        {"collection": collection, "hits": hits, "min_score": min_score, "truncated": found.truncated, **seconds}
    )

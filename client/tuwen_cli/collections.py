"""`tuwen collections`: list, show, rename, copy and drop collections, and move or forget their sources."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tuwen_cli.options import JsonOption, print_json, print_table
from tuwen_cli.search import StoreOption

if TYPE_CHECKING:
    from tuwen_search.generations import Generation
    from tuwen_search.store import MilvusStore, Space

__all__ = ["collections"]

collections = typer.Typer(
    no_args_is_help=True,
    help="List, show and drop collections, and move or forget their sources. No command needs an embedding server.",
)

_VALUES_SHOWN = 5
_Collection = Annotated[str, typer.Argument(help="Name of the collection, as in `tuwen index --into`.")]


@contextmanager
def _opened(store: str | None) -> Iterator[MilvusStore]:
    from tuwen_search.store import MilvusStore

    with closing(MilvusStore(store)) as opened:
        yield opened


@collections.command("list")
def list_(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the collections of a store."""
    from tuwen_search.generations import current_generation

    with _opened(store) as opened:
        found = []
        for name in opened.names():
            current = current_generation(opened, name)
            opened.load(current.place)
            pictures, checkpoint = opened.count(current.place), current.space.checkpoint
            found.append({"collection": name, "pictures": pictures, "checkpoint": checkpoint})
        place = opened.url
    if as_json:
        print_json({"store": place, "collections": found})
    elif not found:
        typer.echo(f"{place} holds no collections; make one with: tuwen index FOLDER --into NAME")
    else:
        rows = [[str(one["collection"]), f"{one['pictures']:,}", str(one["checkpoint"])] for one in found]
        print_table("", ["collection", "pictures", "checkpoint"], rows)


@collections.command("show")
def show(collection: _Collection, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show the model and the sources of a collection, and which sources are gone."""
    from tuwen_search.generations import current_generation, generations_of
    from tuwen_search.maintenance import sources_of

    with _opened(store) as opened:
        sources = sources_of(opened, collection)
        space = current_generation(opened, collection).space
        spaces = [_described(opened, generation, space) for generation in generations_of(opened, collection)]
    pictures = sum(source.pictures for source in sources)
    if as_json:
        described = [vars(source) for source in sources]
        told = {"collection": collection, "pictures": pictures, **vars(space), "spaces": spaces, "sources": described}
        print_json(told)
        return
    typer.echo(f"{collection}: {pictures:,} pictures, {space.dimension} components, index {space.index}")
    typer.echo(f"model: {space.checkpoint}, fingerprint {space.fingerprint}")
    if sources:
        rows = [[source.name, f"{source.pictures:,}", source.state] for source in sources]
        print_table("", ["source", "pictures", "state"], rows)
    if len(spaces) > 1:
        rows = [[str(value) for value in row.values()] for row in spaces]
        print_table("", ["space", "checkpoint", "pictures", "state"], rows)
    if any(source.state == "gone" for source in sources):
        typer.echo(
            f"a source that is gone: tuwen collections move {collection} --from OLD --to NEW, "
            f"or tuwen collections forget {collection} SOURCE",
            err=True,
        )


def _described(store: MilvusStore, generation: Generation, current: Space) -> dict[str, object]:
    space = generation.space
    state = "unfinished" if not generation.complete else "current" if space == current else "kept"
    return {
        "fingerprint": space.fingerprint,
        "checkpoint": space.checkpoint,
        "pictures": _pictures(store, generation),
        "state": state,
    }


def _pictures(store: MilvusStore, generation: Generation) -> int:
    store.load(generation.place)
    return store.count(generation.place)


@collections.command("fields")
def fields(
    collection: _Collection,
    where: Annotated[
        str, typer.Option(help="Count only the pictures that this filter selects; see `tuwen search`.")
    ] = "",
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Read all pictures, which is slow for a large collection. Default: at most 8,000 pictures are read.",
        ),
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the metadata that filters can use, with the most frequent values and the ranges of numbers.

    If the collection has more than 8,000 pictures, the counts come from a random sample.
    """
    from tuwen_search.facets import SAMPLE, facets_of
    from tuwen_search.generations import current_generation

    with _opened(store) as opened:
        place = current_generation(opened, collection).place
        opened.load(place)
        facets = facets_of(opened, place, where=where, sample=None if everything else SAMPLE)
        pictures = opened.count(place, where)
    if as_json:
        described = [vars(facet) for facet in facets]
        print_json({"collection": collection, "pictures": pictures, "fields": described})
    elif not facets:
        typer.echo(f"{collection} has no metadata; index a table with columns beside its paths, such as a .csv file")
    else:
        rows = []
        for facet in facets:
            common = ", ".join(f"{value} ({count:,})" for value, count in facet.values[:_VALUES_SHOWN])
            ranged = facet.smallest is not None and len(facet.values) > _VALUES_SHOWN
            rows.append(
                [facet.field, f"{facet.pictures:,}", f"{facet.smallest:g} to {facet.largest:g}" if ranged else common]
            )
        print_table("", ["field", "pictures", "values"], rows)
        if facets[0].read < pictures:
            typer.echo(
                f"These are the counts and ranges of a random sample: {facets[0].read:,} of {pictures:,} pictures. "
                f"To read all: tuwen collections fields {collection} --all",
                err=True,
            )


@collections.command("rename")
def rename(
    collection: _Collection,
    new: Annotated[str, typer.Argument(help="New name of the collection.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a collection another name."""
    from tuwen_search.generations import rename_collection

    with _opened(store) as opened:
        rename_collection(opened, collection, new)
    if as_json:
        print_json({"collection": collection, "renamed": new})
    else:
        typer.echo(f"{collection} is now {new}")


@collections.command("copy")
def copy(
    collection: _Collection,
    new: Annotated[str, typer.Argument(help="Name of the copy.")],
    to: Annotated[
        str | None,
        typer.Option(help="Store of the copy, such as backup.db. Default: the same store.", show_default=False),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a collection under another name, or into another store as a backup. To restore a backup, copy it back."""
    from tuwen_search.generations import copy_collection

    with _opened(store) as opened:
        if to is None:
            count = copy_collection(opened, collection, new)
        else:
            with _opened(to) as target:
                count = copy_collection(opened, collection, new, target)
    if as_json:
        print_json({"collection": collection, "copy": new, "pictures": count})
    else:
        typer.echo(f"{count:,} pictures copied from {collection} to {new}{f' in {to}' if to else ''}")


@collections.command("drop")
def drop(
    collection: _Collection,
    space: Annotated[
        str | None,
        typer.Option(
            help="Fingerprint of an embedding space, or the first digits of the fingerprint. Only the vectors of this "
            "space are removed, such as the old vectors that `tuwen migrate` keeps. Default: the whole collection is "
            "removed.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a collection with all its vectors. The picture files are not changed."""
    from tuwen_search.generations import chosen_generations, drop_generations

    with _opened(store) as opened:
        chosen = chosen_generations(opened, collection, space)
        count = max(_pictures(opened, generation) for generation in chosen)
        what = collection if space is None else f"the vectors of {collection} in the space {space}"
        if not yes:
            typer.confirm(f"Remove {what} with {count:,} pictures?", abort=True, err=True)
        drop_generations(opened, chosen)
    if as_json:
        print_json({"collection": collection, "removed": count})
    else:
        typer.echo(f"removed: {what}, with {count:,} pictures")


@collections.command("forget")
def forget(
    collection: _Collection,
    source: Annotated[str, typer.Argument(help="The source, as `tuwen collections show` prints it.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove all pictures of one source from a collection. The files are not changed."""
    from tuwen_search.maintenance import forget_source

    with _opened(store) as opened:
        count = forget_source(opened, collection, source)
    if as_json:
        print_json({"collection": collection, "source": source, "removed": count})
    else:
        typer.echo(f"{source}: {count:,} pictures removed from {collection}")


@collections.command("move")
def move(
    collection: _Collection,
    old: Annotated[str, typer.Option("--from", help="The former path: a source, or a folder with sources below it.")],
    new: Annotated[str, typer.Option("--to", help="The new path, where the files are now.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the paths of pictures after their files were moved, without embedding them again.

    Run the same command again to finish an interrupted move.
    """
    from tuwen_search.maintenance import move_sources

    with _opened(store) as opened:
        moved = move_sources(opened, collection, old, new)
    if as_json:
        print_json({"collection": collection, "from": old, "to": new, **vars(moved)})
    else:
        known = f"; {moved.known:,} were there already" if moved.known else ""
        typer.echo(f"{len(moved.sources):,} sources with {moved.moved:,} pictures moved from {old} to {new}{known}")

"""`tuwen duplicates`: find pictures of a collection that look the same."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tuwen_cli.options import JsonOption, print_json, printable
from tuwen_cli.search import StoreOption
from tuwen_files.replacing import replacing

__all__ = ["duplicates"]

_SHOWN_ON_SHEET = 100


def duplicates(
    collection: Annotated[str, typer.Argument(help="Name of a collection that `tuwen index` made.")],
    threshold: Annotated[
        float,
        typer.Option(help="Minimum cosine of two pictures that count as near-duplicates. 1 finds exact copies only."),
    ] = 0.97,
    where: Annotated[
        str, typer.Option(help="Compare only the pictures that this filter selects; see `tuwen search`.")
    ] = "",
    show: Annotated[
        Path | None, typer.Option(help="Write the groups as a contact sheet into this .png file.", show_default=False)
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Group the pictures of a collection that look the same: copies, other sizes and formats, small edits.

    No embedding server is needed, and no picture is removed. The first picture of a group has the largest file.
    """
    from tuwen_search.contact_sheet import contact_sheet
    from tuwen_search.near_duplicates import near_duplicates
    from tuwen_search.store import MilvusStore

    if show is not None and show.suffix.lower() != ".png":
        raise typer.BadParameter(f"--show: expected a .png file, got {show.name}")
    with closing(MilvusStore(store)) as opened:
        groups = near_duplicates(opened, collection, threshold=threshold, where=where)
    if show is not None:
        hits = [
            replace(hit, picture=replace(hit.picture, name=f"group {number}: {Path(hit.picture.name).name}"))
            for number, group in enumerate(groups, 1)
            for hit in group.hits
        ]
        title = f"{collection}: {len(groups)} groups of near-duplicates"
        with replacing(show) as scratch:
            contact_sheet(hits[:_SHOWN_ON_SHEET], title).save(scratch, "PNG")
    if as_json:
        described = [
            {
                "identical": group.identical,
                "pictures": [
                    {"id": hit.picture.id, "path": str(Path(hit.picture.source, hit.picture.name)), "score": hit.score}
                    for hit in group.hits
                ],
            }
            for group in groups
        ]
        print_json({"collection": collection, "threshold": threshold, "groups": described})
        return
    for number, group in enumerate(groups, 1):
        typer.echo(f"group {number}: {len(group.hits)} pictures{', identical files' if group.identical else ''}")
        for hit in group.hits:
            path = printable(str(Path(hit.picture.source, hit.picture.name)))
            typer.echo(f"  {hit.score:.3f}  {hit.picture.file_size:>12,} bytes  {path}")
    typer.echo(
        f"{len(groups):,} groups of near-duplicates; {sum(len(group.hits) - 1 for group in groups):,} spare pictures"
    )

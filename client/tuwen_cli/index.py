"""`tuwen index`: embed pictures into a collection for search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuwen_cli.connection import connect
from tuwen_cli.counts import counted
from tuwen_cli.options import JsonOption, ModelOption, ShowIgnoredOption, TimeoutOption, UrlOption, print_json
from tuwen_cli.search import StoreOption
from tuwen_files.image_files import listed_kinds
from tuwen_search import IndexType

if TYPE_CHECKING:
    from tuwen_search import Report

__all__ = ["index"]

_SHOWN = 10


def index(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Folders, text files that list pictures, tables with a column of paths (.parquet, .csv, .tsv, "
            ".jsonl), or tar archives (.tar, .tar.gz, .tgz, .tar.zst)."
        ),
    ],
    into: Annotated[
        str, typer.Option("--into", "-i", help="Name of the collection, which is created if it does not exist.")
    ],
    store: StoreOption = None,
    index_type: Annotated[
        IndexType, typer.Option("--index", help="Type of the vector index in a new collection.")
    ] = "auto",
    keep_removed: Annotated[
        bool, typer.Option("--keep-removed", help="Keep indexed pictures that are no longer in their source.")
    ] = False,
    confirm_removal: Annotated[
        bool,
        typer.Option("--confirm-removal", help="Remove all indexed pictures of a source that is empty now."),
    ] = False,
    show_ignored: ShowIgnoredOption = False,
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show a progress bar if standard error is a terminal.")
    ] = True,
    url: UrlOption = "localhost:8001",
    model: ModelOption = "",
    timeout: TimeoutOption = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Update a collection from folders of pictures: embed new and changed files, and remove missing ones.

    Run the same command again to resume an interrupted run. A broken picture is skipped and listed, and the exit code
    is 1. The exit code is also 1 if something cannot be read, such as a subfolder without permission or the rest of a
    damaged archive. Pictures of the unreadable part stay in the collection.
    """
    from tuwen_search import Collection
    from tuwen_search.sources import open_source

    opened = [open_source(source) for source in sources]  # a wrong path creates no collection
    reports: list[Report] = []
    with (
        connect(url, timeout, model=model) as clip,
        Collection.open(into, clip, store=store, create=True, index=index_type) as collection,
    ):
        try:
            for source in opened:
                report = collection.add(
                    source, progress=progress, keep_removed=keep_removed, confirm_removal=confirm_removal
                )
                reports.append(report)
                if not as_json:
                    _say(report, show_ignored=show_ignored)
        except KeyboardInterrupt:
            typer.echo("stopped; finished work is kept; run the same command again to resume", err=True)
            raise
        duplicates, count = collection.duplicates(), collection.count()
        failures = [failure for report in reports for failure in report.failures]
        if failures and not count and not as_json:
            raise typer.Exit(1)  # no picture could be embedded: a new collection is removed again
    if as_json:
        described = [_described(report, show_ignored=show_ignored) for report in reports]
        print_json({"collection": into, "pictures": count, "sources": described, "duplicates": duplicates})
    else:
        for group in duplicates[:_SHOWN]:
            typer.echo(f"the same picture: {', '.join(group)}")
        if len(duplicates) > _SHOWN:
            typer.echo(f"... and {len(duplicates) - _SHOWN} more pictures that occur several times")
        typer.echo(f"{into} holds {count:,} pictures; try: tuwen search {into} 一只猫")
    if failures:
        raise typer.Exit(1)


def _described(report: Report, *, show_ignored: bool) -> dict[str, object]:
    described = {
        **vars(report),
        "failed": len(report.failures),
        "failures": [vars(failure) for failure in report.failures],
    }
    if not show_ignored:
        del described["ignored_names"]
    return described


def _say(report: Report, *, show_ignored: bool) -> None:
    counts = counted(
        added=report.added,
        changed=report.changed,
        updated=report.updated,
        unchanged=report.unchanged,
        removed=report.removed,
        failed=len(report.failures),
    )
    typer.echo(f"{report.source}: {counts}, in {report.seconds:.1f} s")
    if report.ignored:
        typer.echo(f"  skipped files that are not pictures: {listed_kinds(report.ignored)}", err=True)
        for name in report.ignored_names if show_ignored else ():
            typer.echo(f"    {name.encode('utf-8', 'backslashreplace').decode()}", err=True)
    for failure in report.failures[:_SHOWN]:
        typer.secho(f"  {failure.name}: {failure.message} ({failure.reason})", fg=typer.colors.YELLOW, err=True)
    if len(report.failures) > _SHOWN:
        typer.secho(f"  ... and {len(report.failures) - _SHOWN} more; --json lists all", err=True)

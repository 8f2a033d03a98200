"""`tuwen migrate`: embed a collection with another model, and switch to it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from tuwen_cli.connection import connect
from tuwen_cli.options import JsonOption, ModelOption, TimeoutOption, print_json
from tuwen_cli.search import StoreOption

if TYPE_CHECKING:
    from tuwen_search.migration import MigrationReport

__all__ = ["migrate"]

_SHOWN = 10


def migrate(
    collection: Annotated[str, typer.Argument(help="Name of a collection that `tuwen index` made.")],
    to: Annotated[
        str,
        typer.Option("--to", "--url", "-u", help="host:port of the gRPC endpoint of the server with the new model."),
    ],
    model: ModelOption = "",
    drop_missing: Annotated[
        bool,
        typer.Option(
            "--drop-missing",
            help="Switch even if some pictures cannot be embedded again. These pictures get no new vectors.",
        ),
    ] = False,
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Show a progress bar if standard error is a terminal.")
    ] = True,
    store: StoreOption = None,
    timeout: TimeoutOption = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Embed the pictures of a collection again with another model, check the vectors, and switch to them.

    Searches work during the migration. Run the same command again to resume an interrupted run. If a picture cannot be
    embedded again, it is listed, the collection is not switched, and the exit code is 1.

    Searches with the old model's server still use the old vectors. `tuwen collections drop --space` removes the old
    vectors.
    """
    from tuwen_search.migration import migrate as migrated
    from tuwen_search.store import MilvusStore

    with connect(to, timeout, model=model) as clip, closing(MilvusStore(store)) as opened:
        try:
            report = migrated(opened, collection, clip, drop_missing=drop_missing, progress=progress)
        except KeyboardInterrupt:
            typer.echo("stopped; finished work is kept; run the same command again to resume", err=True)
            raise
    if as_json:
        failures = [vars(failure) for failure in report.failures]
        told = {**vars(report), "old": vars(report.old), "new": vars(report.new), "failures": failures}
        print_json({**told, "failed": len(failures)})
    else:
        _say(report)
    if not report.switched:
        raise typer.Exit(1)


def _say(report: MigrationReport) -> None:
    old, new = report.old, report.new
    earlier = report.pictures - report.embedded
    counts = f"{report.embedded:,} embedded, {earlier:,} in earlier runs"
    changed = f", {report.changed:,} of files that changed" if report.changed else ""
    typer.echo(f"{report.collection}: {report.pictures:,} pictures with {new.checkpoint}: {counts}{changed}")
    if report.checked:
        cosine = f"the smallest cosine with the stored vector is {report.least_cosine:.4f}"
        typer.echo(f"checked: {report.checked} pictures were embedded a second time; {cosine}")
    for failure in report.failures[:_SHOWN]:
        typer.secho(f"  {failure.name}: {failure.message} ({failure.reason})", fg=typer.colors.YELLOW, err=True)
    if len(report.failures) > _SHOWN:
        typer.secho(f"  ... and {len(report.failures) - _SHOWN} more; --json lists all", err=True)
    if report.switched:
        left_out = f"; {len(report.failures):,} pictures are left out" if report.failures else ""
        typer.echo(f"switched{left_out}. Servers of {old.checkpoint} still find the old vectors. To remove these:")
        typer.echo(f"  tuwen collections drop {report.collection} --space {old.fingerprint}")
    else:
        typer.echo(
            f"not switched: {len(report.failures):,} pictures cannot be embedded again. Bring their files back and run "
            "the same command again, or add --drop-missing to switch without them",
            err=True,
        )

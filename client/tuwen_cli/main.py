"""The entry point: the list of commands, and the handling of errors."""

from __future__ import annotations

import sys

import typer

from tuwen import TuwenError
from tuwen_cli import (
    build,
    calibrate,
    classify,
    collections,
    dataset,
    duplicates,
    edge,
    embed,
    evaluate,
    index,
    loadtest,
    search,
    serve,
    server,
    similarity,
    status,
    train,
    tune,
    web,
)
from tuwen_cli.options import connection
from tuwen_server.signals import stop_on_signals

__all__ = ["main"]

_app = typer.Typer(
    callback=connection,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    epilog="A first look: `tuwen build CHECKPOINT --output repository`, `tuwen serve repository`, and in another "
    "terminal `tuwen similarity --image cat.jpg --text 一只猫 --text 一只狗`.",
)
_app.command("build")(build.build)
_app.command("serve")(serve.serve)
_app.add_typer(server.server, name="server")
_app.command("status")(status.status)
_app.command("embed")(embed.embed)
_app.command("similarity")(similarity.similarity)
_app.command("classify")(classify.classify)
_app.command("calibrate")(calibrate.calibrate)
_app.command("index")(index.index)
_app.command("search")(search.search)
_app.command("duplicates")(duplicates.duplicates)
_app.command("web")(web.web)
_app.command("edge")(edge.edge)
_app.command("edge-key")(edge.edge_key)
_app.command("tune")(tune.tune)
_app.command("loadtest")(loadtest.loadtest)
_app.command("train")(train.train)
_app.add_typer(collections.collections, name="collections")
_app.add_typer(dataset.dataset, name="dataset")
_app.add_typer(evaluate.evaluate, name="evaluate")


def main() -> None:
    """Run a command. Exit codes: 0 success, 1 an error of tuwen in one line, 2 wrong usage, 130 interrupted.

    SIGTERM and SIGHUP interrupt every command, so that no temporary file and no process remains.
    """
    try:
        with stop_on_signals():
            _app()
    except TuwenError as error:
        typer.secho(f"tuwen: {error}", fg=typer.colors.RED, err=True)
        sys.exit(1)
    except OSError as error:  # a disk, a path or a permission: nothing that a traceback would explain
        named = f"cannot use '{error.filename}': " if error.filename is not None else ""
        typer.secho(f"tuwen: {named}{error.strerror or error}", fg=typer.colors.RED, err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)

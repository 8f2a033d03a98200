"""The entry point: the list of commands, and the handling of errors."""

from __future__ import annotations

import os
import sys

import typer

from tuwen_cli.commands import SETTINGS, CommandGroup
from tuwen_cli.connection import connection
from tuwen_server.signals import stop_on_signals

__all__ = ["main"]

_app = typer.Typer(
    cls=CommandGroup,
    callback=connection,
    no_args_is_help=True,
    epilog="A first look: `tuwen build CHECKPOINT --output repository`, `tuwen serve repository`, and in another "
    "terminal `tuwen similarity --image cat.jpg --text 一只猫 --text 一只狗`.",
    **SETTINGS,
)


def main() -> None:
    """Run a command. Exit codes: 0 success, 1 an error that tuwen explains in one line, 2 wrong usage, 130 interrupted.

    SIGTERM and SIGHUP interrupt every command, so that no temporary file and no process remains.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # before it is imported: it logs what the message says anyway
    try:
        with stop_on_signals():
            _app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        message = _sentence(error)
        if message is None:
            raise
        typer.secho(f"tuwen: {message}", fg=typer.colors.RED, err=True)
        sys.exit(1)


def _sentence(error: Exception) -> str | None:
    """Return the message that replaces a traceback; None for a bug in the program, which needs the traceback."""
    from tuwen import TuwenError

    if isinstance(error, TuwenError):
        return str(error)
    from tuwen_files.disk_space import is_disk_full, os_reason

    named = f"cannot use '{filename}': " if (filename := getattr(error, "filename", None)) is not None else ""
    if isinstance(error, OSError) or is_disk_full(error):  # a path or a permission; libraries have errors of their own
        return f"{named}{os_reason(error)}"
    return None

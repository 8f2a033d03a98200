"""The command line `tuwen`: one subcommand a module, errors as one line, ``--json`` for programs."""

from tuwen._cli._main import main

__all__ = ["main"]

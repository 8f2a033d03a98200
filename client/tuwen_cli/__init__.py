"""The command line `tuwen`: one subcommand a module, errors as one line, ``--json`` for programs."""

from tuwen_cli.main import main

__all__ = ["main"]

"""The command line `tuwen`: one module for each command, errors as one line, ``--json`` for programs."""

from tuwen_cli.main import main

__all__ = ["main"]

"""The command line `tuwen`, with one module for each command. An error takes one line; ``--json`` prints JSON."""

from tuwen_cli.main import main

__all__ = ["main"]

"""The command line `tuwen`, with one module for each command. Errors take one line; ``--json`` serves programs."""

from tuwen_cli.main import main

__all__ = ["main"]

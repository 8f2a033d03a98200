"""Commands for tests of the reference interpreter, in the place of the commands of an original implementation."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["COMMANDS"]


def note(output: str, text: str) -> None:
    """Write a text to ``note.txt``, and print the text, because the originals print messages as well."""
    print(text)
    Path(output, "note.txt").write_text(text, encoding="utf-8")


def fail(text: str) -> None:
    """Raise a `ValueError` with this text."""
    raise ValueError(text)


def end(code: int) -> None:
    """End the interpreter with an exit code, as a fatal error in a library does."""
    os.write(2, b"killed by a library")
    os._exit(code)


COMMANDS = {"note": note, "fail": fail, "end": end, "wait": lambda: time.sleep(3600)}

"""Commands in the place of an original's, which do what a test wants of a reference interpreter."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["COMMANDS"]


def note(output: str, text: str) -> None:
    """Write a text to ``note.txt``, and print it, as the originals print what they do."""
    print(text)
    Path(output, "note.txt").write_text(text, encoding="utf-8")


def fail(text: str) -> None:
    """Raise an error."""
    raise ValueError(text)


def end(code: int) -> None:
    """End the interpreter, as a fatal error in a library does."""
    os.write(2, b"killed by a library")
    os._exit(code)


COMMANDS = {"note": note, "fail": fail, "end": end, "wait": lambda: time.sleep(3600)}

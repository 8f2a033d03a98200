"""Text files of a repository that are replaced completely or not at all."""

from __future__ import annotations

from pathlib import Path

__all__ = ["replace_text"]


def replace_text(path: Path, text: str) -> None:
    """Write a text to a file in UTF-8. An earlier file is replaced as a whole, and stays if writing fails.

    Raises:
        OSError: the file cannot be written.
    """
    scratch = path.with_name(f".{path.name}.writing")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)

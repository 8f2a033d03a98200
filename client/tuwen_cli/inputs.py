"""Checks of the pictures and texts on the command line. A folder means all images in the folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import typer

from tuwen_files.image_files import IMAGE_SUFFIXES, image_files

__all__ = ["checked_texts", "note_joined_labels", "pictures_of"]

_SEPARATORS = re.compile(r"\s*[,，、;；]\s*")


def pictures_of(paths: Sequence[Path]) -> list[Path]:
    """Return the given files, and the images in the given folders, without repetitions.

    Raises:
        typer.BadParameter: a folder holds no images.
        InvalidArgumentError: a subfolder cannot be read.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = list(image_files(path))
        if not found:
            raise typer.BadParameter(
                f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}); pass another folder"
            )
        files += found
    return list(dict.fromkeys(files))


def checked_texts(option: str, texts: Sequence[str]) -> None:
    """Check that no text is empty.

    Raises:
        typer.BadParameter: a text is empty. The message names the option and the position of the text.
    """
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise typer.BadParameter(
                f"{option} number {number} is empty; pass a text, and check that the shell variables in "
                "the command are set"
            )


def note_joined_labels(labels: Sequence[str]) -> None:
    """Print a note if a label looks like several labels in one."""
    for label in labels:
        parts = [part for part in _SEPARATORS.split(label) if part]
        if len(parts) > 1:
            separate = " ".join(f"--label {part}" for part in parts)
            typer.secho(
                f"'{label}' is one label; for {len(parts)} labels pass {separate}", fg=typer.colors.YELLOW, err=True
            )

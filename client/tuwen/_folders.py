"""One walk over folders of images, for every command that reads one."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tuwen._errors import InvalidArgumentError

__all__ = ["IMAGE_SUFFIXES", "image_files", "kind_of_file", "listed_kinds"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"})
_SHOWN = 8

Unreadable = Callable[[Path, OSError], None]
"""Takes a folder or file that could not be looked at, and the error."""


def image_files(
    folder: Path, *, left_out: Counter[str] | None = None, unreadable: Unreadable | None = None
) -> Iterator[Path]:
    """Yield the image files in a folder at any depth, sorted: those of a folder before those of its subfolders.

    An image file is a regular file, or a link to one, whose name ends like an image's. Folders, FIFOs, sockets and
    devices with such names are not read. Links to folders are not followed, so the walk stays in the folder and ends.

    Args:
        folder: the folder.
        left_out: is counted up for each file that is left out, by `kind_of_file`.
        unreadable: is called with each subfolder that cannot be listed and each file that cannot be looked at, such as
            a link to a file that is missing. The walk goes on without it. What is removed during the walk is skipped.

    Raises:
        InvalidArgumentError: a subfolder or file cannot be looked at, and there is no `unreadable`.
    """
    report = unreadable or _refuse

    def not_listed(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename or folder))
        if path == folder or os.path.lexists(path):  # else it was removed during the walk
            report(path, error)

    for parent, subfolders, files in os.walk(folder, onerror=not_listed):
        subfolders.sort()
        for file in sorted(files):
            path = Path(parent, file)
            regular = True
            if path.suffix.lower() in IMAGE_SUFFIXES:
                try:
                    regular = stat.S_ISREG(path.stat().st_mode)
                except OSError as error:
                    if os.path.lexists(path):
                        report(path, error)
                    continue
                if regular:
                    yield path
                    continue
            if left_out is not None:
                left_out[kind_of_file(file, regular=regular)] += 1


def kind_of_file(name: str, *, regular: bool = True) -> str:
    """Return what files that are left out are counted by: the suffix in lower case."""
    suffix = Path(name).suffix.lower().encode("utf-8", "backslashreplace").decode() or "without suffix"
    return suffix if regular else f"{suffix} (no regular file)"


def listed_kinds(left_out: Counter[str]) -> str:
    """Return the counts in words, the most frequent kinds first: ``12 .txt, 3 .heic``; empty if there are none."""
    most = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f"{count:,} {kind}" for kind, count in most[:_SHOWN]]
    rest = sum(count for _, count in most[_SHOWN:])
    return ", ".join([*kinds, f"{rest:,} others"] if rest else kinds)


def _refuse(path: Path, error: OSError) -> None:
    raise InvalidArgumentError(f"cannot read '{path}': {error.strerror or error}") from error

"""The search for image files in a folder. All commands share this search."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tuwen import InvalidArgumentError

__all__ = ["HEAD_BYTES", "IMAGE_SUFFIXES", "image_files", "is_image", "kind_of_file", "listed_kinds"]

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".mpo"),
        *(".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
        *(".heic", ".heif", ".hif"),
    }
)
HEAD_BYTES = 16
_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_HEIF_BRANDS = (b"avif", b"mif1", b"heic", b"heix", b"heim", b"heis")  # the brands of still images
_APPLE_DOUBLE = b"\0\x05\x16\x07"  # macOS writes `._a.jpg` beside `a.jpg` on disks of other systems
_SHOWN = 8

LeftOut = Callable[[Path, str], None]
"""A callback whose arguments are a skipped file and its kind, which `kind_of_file` returned."""

Unreadable = Callable[[Path, OSError], None]
"""A callback whose arguments are a folder or file that could not be examined, and the error."""


def image_files(
    folder: Path, *, left_out: LeftOut | None = None, unreadable: Unreadable | None = None
) -> Iterator[Path]:
    """Yield the image files in a folder at any depth, sorted. The files of a folder come before its subfolders.

    An image file is a regular file or a link to a regular file. Its name ends in the suffix of an image format. A file
    without a suffix counts if its content begins like an image. FIFOs, sockets and devices are not read. Links to
    folders are not followed, so that the search stays in the folder and ends.

    Args:
        folder: the folder.
        left_out: a function that is called with each file that is skipped because it is not an image; None: no calls.
        unreadable: a function that is called with each subfolder that cannot be listed and each file that cannot be
            examined, such as a link to a missing file. The search then continues. None: an error is raised. Files that
            are removed during the search are skipped.

    Raises:
        InvalidArgumentError: a subfolder or file cannot be examined, and `unreadable` is None.
    """
    report = unreadable or _refuse

    def not_listed(error: OSError) -> None:
        path = Path(os.fsdecode(error.filename or folder))
        if path == folder or not _was_removed(path, error):
            report(path, error)

    for parent, subfolders, files in os.walk(folder, onerror=not_listed):
        subfolders.sort()
        for file in sorted(files):
            path = Path(parent, file)
            regular = True
            if path.suffix.lower() in IMAGE_SUFFIXES or not path.suffix:
                try:
                    regular = stat.S_ISREG(path.stat().st_mode)
                    image = regular and is_image(file, lambda path=path: _head(path))  # type: ignore[misc]
                except OSError as error:
                    if not _was_removed(path, error):
                        report(path, error)
                    continue
                if image:
                    yield path
                    continue
            if left_out is not None:
                left_out(path, kind_of_file(file, regular=regular))


def _was_removed(path: Path, error: OSError) -> bool:
    """Return whether a path was removed during the search. A path that this user may not examine counts as existing."""
    return isinstance(error, (FileNotFoundError, NotADirectoryError)) and not os.path.lexists(path)


def is_image(name: str, head: Callable[[], bytes]) -> bool:
    """Return whether a regular file is an image, by its name or, if it has no suffix, by its content.

    Args:
        name: the file's name.
        head: a function that returns the first 16 bytes of the file. It is called only for a name without a suffix.
    """
    base, suffix = Path(name).name, Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return not (base.startswith("._") and head().startswith(_APPLE_DOUBLE))
    if suffix:
        return False
    start = head()
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    return start.startswith(_MAGICS) or webp or (start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def kind_of_file(name: str, *, regular: bool = True) -> str:
    """Return the kind under which a skipped file is counted: its suffix in lower case, such as ``.txt``."""
    suffix = Path(name).suffix.lower().encode("utf-8", "backslashreplace").decode() or "without suffix"
    return suffix if regular else f"{suffix} (not a regular file)"


def listed_kinds(left_out: Mapping[str, int]) -> str:
    """Return the counts of skipped files as text, the most frequent kind first, such as ``12 .txt, 3 .mov``."""
    most = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f"{count:,} {kind}" for kind, count in most[:_SHOWN]]
    rest = sum(count for _, count in most[_SHOWN:])
    return ", ".join([*kinds, f"{rest:,} others"] if rest else kinds)


def _refuse(path: Path, error: OSError) -> None:
    raise InvalidArgumentError(f"cannot read '{path}': {error.strerror or error}") from error

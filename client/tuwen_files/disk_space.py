"""The check of a disk's free space before the work, and the error for a full disk."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuwen import TuwenError

__all__ = ["DiskFullError", "check_space", "full_disk_named", "is_disk_full", "os_reason", "readable_size"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_WORDS = ("no space left on device", "disk quota exceeded")  # C++ and Rust libraries give no errno
_ADVICE = "free some space, or choose an output on another disk"


class DiskFullError(TuwenError):
    """A disk has too little free space for an output."""


def check_space(path: Path, needed: int, what: str) -> None:
    """Check that a disk has enough free space for an output.

    Args:
        path: a file or folder of the output. The path need not exist.
        needed: the largest number of bytes that the output takes while it is written.
        what: the name of the output in the message, such as ``the repository``.

    Raises:
        DiskFullError: the disk has too little free space. The message states the needed and the free size.
    """
    folder = path.expanduser().absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError:  # this file system does not report its size, so a full disk is noticed later
        return
    if usage.total and usage.free < needed:
        raise DiskFullError(
            f"not enough space in '{folder}': {what} needs about {readable_size(needed)}, and "
            f"{readable_size(usage.free)} are free; {_ADVICE}"
        )


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Provide a context in which a library's error about a full disk becomes an error that names the output.

    Args:
        path: the output.

    Raises:
        DiskFullError: the disk became full in the block.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, TuwenError) or not is_disk_full(error):
            raise
        raise DiskFullError(f"cannot write '{path}': {os_reason(error)}") from error


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, says that a disk or a quota is full."""
    seen: set[int] = set()  # in pymilvus, two errors can each be the cause of the other
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if getattr(cause, "errno", None) in _FULL or any(word in str(cause).lower() for word in _WORDS):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def os_reason(error: BaseException) -> str:
    """Return the reason of an error in words for a message. For a full disk, the words include the remedy."""
    if is_disk_full(error):
        return f"the disk is full; {_ADVICE}"
    return str(getattr(error, "strerror", None) or error)


def readable_size(size: int) -> str:
    """Return a number of bytes in KiB, MiB or GiB, such as ``1.5 GiB``."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1024:.0f} KiB"

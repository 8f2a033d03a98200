"""Functions that replace a file in one step, and that lock a folder for one writer."""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tuwen import InvalidArgumentError
from tuwen_files.disk_space import os_reason

try:
    import fcntl
except ImportError:  # Windows lacks fcntl
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked_folder", "release", "replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a scratch file for an output. If the block ends without an error, the scratch file replaces the output.

    Each scratch file lies beside the output. It has a unique name and is locked during the block, so several writers of
    one path do not disturb each other. Scratch files of killed processes are removed.

    Raises:
        InvalidArgumentError: the file cannot be written, or the path names no file, such as ``.``, ``..`` or ``/``.
    """
    if path.name in ("", ".."):
        raise InvalidArgumentError(f"expected the path of a file to write, got the folder '{path}'")
    scratch, lock = None, -1
    try:
        _remove_abandoned(path)
        scratch, lock = _new_scratch(path)
        yield scratch
        _sync(scratch)
        scratch.replace(path)
        with suppress(OSError):  # some file systems cannot sync a folder
            _sync(path.parent)
    except OSError as error:
        raise InvalidArgumentError(f"cannot write '{path}': {os_reason(error)}") from error
    finally:
        if scratch is not None:
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
        release(lock)


def locked_folder(folder: Path) -> int:
    """Create a folder, lock it, and return the file descriptor that `release` takes.

    The operating system releases the lock when the process ends, even if the process is killed.

    Raises:
        InvalidArgumentError: the folder cannot be created, or another writer holds the lock.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if fcntl is None:
                return -1
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another writer removed the folder in the meantime
            continue
        except OSError as error:
            raise InvalidArgumentError(f"cannot write to '{folder.parent}': {os_reason(error)}") from error
        if not _lock(descriptor):
            os.close(descriptor)
            raise InvalidArgumentError(
                f"another process is writing '{folder.name.removesuffix('.parts')}' in '{folder.parent}'; "
                "wait until that process ends, or choose another output"
            )
        if _is_still(descriptor, folder):
            return descriptor
        os.close(descriptor)  # another writer has finished and removed the folder


def release(descriptor: int) -> None:
    """Release the lock of a file descriptor that `locked_folder` returned."""
    if descriptor >= 0:
        os.close(descriptor)


def _new_scratch(path: Path) -> tuple[Path, int]:
    while True:
        scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:16]}.writing")
        descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if _lock(descriptor) and _is_still(descriptor, scratch):
            return scratch, descriptor
        os.close(descriptor)  # another writer removed the file as abandoned before it was locked


def _remove_abandoned(path: Path) -> None:
    if fcntl is None:
        return
    for name in path.parent.glob(f".{glob.escape(path.name)}.*.writing"):
        with suppress(OSError):
            descriptor = os.open(name, os.O_RDWR)
            try:
                if _lock(descriptor):
                    name.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Try to lock an open file, and return whether this succeeded. On a file system without locks, return True."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

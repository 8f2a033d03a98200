"""Folders that are expensive to make, such as checkpoints and built repositories, shared by workers and later runs."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tests.support.paths import CACHE
from tests.support.sources import PROJECT, SourceTree, versions

__all__ = ["Artefacts"]

_UNUSED_SECONDS = 14 * 24 * 3600.0
_logger = logging.getLogger(__name__)


class Artefacts:
    """A cache of folders, keyed by a hash of everything that determines their content.

    The key is made of the name, the options, the source files of the modules that make the folder, and the versions of
    Python, the libraries and the processor. If any of these changes, the folder is made again. A folder is read-only
    by agreement: a folder whose files were changed after it was made is discarded and made again.

    Beside each folder lies its record, a JSON file: the sizes and times of the files in the folder. The record is also
    the lock of the folder, and its modification time says when the folder was last used.

    Args:
        root: the folder of the cache, created if it does not exist.
        sources: the source code in which the modules that make folders are found.
        libraries: a function that returns the versions that are part of each key.
        now: a function that returns the time, in seconds since 1970.
    """

    def __init__(
        self,
        root: Path = CACHE / "artefacts",
        *,
        sources: SourceTree = PROJECT,
        libraries: Callable[[], Mapping[str, str]] = versions,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._sources = sources
        self._libraries = libraries
        self._now = now
        self._source_hashes: dict[str, str] = {}

    def get(
        self,
        name: str,
        make: Callable[[Path], object],
        *,
        modules: tuple[str, ...],
        options: Mapping[str, object] | None = None,
    ) -> Path:
        """Return the folder with this name and key; make the folder if it is not in the cache.

        Two processes that ask for the same folder at the same time make it once: the second process waits.

        Args:
            name: a name for the content, which helps people who look into the cache.
            make: a function that writes the content into a folder that exists and is empty.
            modules: the dotted names of the modules whose code determines the content.
            options: further values that determine the content, of any type that JSON or `repr` can write.
        """
        folder = self._root / name / self._key(name, modules, options or {})
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(_record_of(folder)) as record:
            if not _intact(folder, record):
                self._remove_unused()
                try:
                    _make(folder, make)
                except BaseException:
                    _record_of(folder).unlink()
                    raise
                record.truncate(0)
                record.write(json.dumps(_listing(folder)))
                record.flush()
            os.utime(_record_of(folder), (self._now(), self._now()))
        return folder

    def _key(self, name: str, modules: tuple[str, ...], options: Mapping[str, object]) -> str:
        described = {
            "name": name,
            "options": options,
            "sources": [self._source_hash(module) for module in modules],
            "versions": self._libraries(),
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True, default=repr).encode()).hexdigest()[:16]

    def _source_hash(self, module: str) -> str:
        if module not in self._source_hashes:
            self._source_hashes[module] = self._sources.hash(module)
        return self._source_hashes[module]

    def _remove_unused(self) -> None:
        """Remove the folders that no run has used for two weeks, unless a process uses them at this moment."""
        for path in self._root.glob("*/*.json"):
            if self._now() - path.stat().st_mtime > _UNUSED_SECONDS:
                try:
                    with _locked(path, wait=False):
                        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                        shutil.rmtree(_scratch_of(path.with_suffix("")), ignore_errors=True)
                        path.unlink()
                except BlockingIOError:
                    continue


def _record_of(folder: Path) -> Path:
    return folder.with_suffix(".json")


def _scratch_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.making")


def _make(folder: Path, make: Callable[[Path], object]) -> None:
    """Make a folder under another name, and rename it when it is complete. The caller holds the folder's lock."""
    scratch = _scratch_of(folder)
    for left_behind in (scratch, folder):  # left by a process that was killed, or changed after it was made
        shutil.rmtree(left_behind, ignore_errors=True)
    scratch.mkdir()
    try:
        make(scratch)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[TextIO]:
    """Open a file, which is created if it does not exist, and hold its lock during the block.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is false.
    """
    import fcntl  # missing on Windows, where the tests of the SDK run without artefacts

    while True:
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                _logger.info("waiting for the process that makes %s", path.with_suffix("").name)
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                yield file
                return


def _is_at(file: TextIO, path: Path) -> bool:
    """Return whether the path still leads to the open file. An earlier holder of the lock may have removed the file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _intact(folder: Path, record: TextIO) -> bool:
    """Return whether a folder is complete and none of its files has changed since the folder was made."""
    record.seek(0)
    try:
        return bool(json.load(record) == _listing(folder)) and folder.is_dir()
    except ValueError:  # an empty record: the folder was never completed
        return False


def _listing(folder: Path) -> dict[str, list[int]]:
    """Return the size and the modification time of each file, by relative path."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            status = file.stat()
            found[str(file.relative_to(folder))] = [status.st_size, status.st_mtime_ns]
    return found

"""Folders that are expensive to make, such as checkpoints and built repositories, shared by workers and later runs."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import CACHE
from tests.support.sources import imported_files, sources_hash, versions

__all__ = ["Artefacts"]

_UNUSED_SECONDS = 14 * 24 * 3600.0


class Artefacts:
    """A cache of folders, keyed by a hash of everything that decides about their content.

    The key is made of the name, the options, the files that the making modules import, and the versions of Python,
    the libraries and the processor. If any of these changes, the folder is made anew. A folder is read-only by
    agreement: a folder whose files were changed after it was made is discarded and made anew.

    Args:
        root: the folder of the cache, created if it does not exist.
    """

    def __init__(self, root: Path = CACHE / "artefacts") -> None:
        self._root = root

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
            name: what the folder holds, for people who look into the cache.
            make: writes the content into a folder that exists and is empty.
            modules: the modules whose code decides about the content, as dotted names.
            options: further values that decide about the content; anything that JSON or `repr` can write.
        """
        key = self._key(name, modules, options or {})
        place = self._root / name / key
        record = place.with_suffix(".json")  # beside the folder, which holds nothing but its content
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.with_name(f".{key}.lock")):
            if not _intact(place, record):
                shutil.rmtree(place, ignore_errors=True)
                self._remove_unused(place.parent)
                with tempfile.TemporaryDirectory(prefix=".making-", dir=place.parent) as scratch:
                    content = Path(scratch) / key
                    content.mkdir()
                    make(content)
                    content.rename(place)
                record.write_text(json.dumps(_listing(place)), encoding="utf-8")
            os.utime(record)
        return place

    def _key(self, name: str, modules: tuple[str, ...], options: Mapping[str, object]) -> str:
        described = {
            "name": name,
            "options": options,
            "sources": [_hash_of_module(module) for module in modules],
            "versions": versions(),
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True, default=repr).encode()).hexdigest()[:16]

    @staticmethod
    def _remove_unused(folder: Path) -> None:
        """Remove folders under older keys that no run has used for two weeks."""
        for record in folder.glob("*.json"):
            if time.time() - record.stat().st_mtime > _UNUSED_SECONDS:
                record.unlink(missing_ok=True)
                shutil.rmtree(record.with_suffix(""), ignore_errors=True)


@functools.cache
def _hash_of_module(module: str) -> str:
    return sources_hash(imported_files(module))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _intact(place: Path, record: Path) -> bool:
    """Return whether a folder is complete and its files are as they were when the folder was made."""
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(kept == _listing(place))


def _listing(folder: Path) -> dict[str, list[int]]:
    """Return the size and the time of change of each file, by relative path."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            status = file.stat()
            found[str(file.relative_to(folder))] = [status.st_size, status.st_mtime_ns]
    return found

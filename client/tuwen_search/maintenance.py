"""The sources of a collection: list, move or forget them without embedding a picture again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from tuwen_search.errors import SourceError
from tuwen_search.generations import current_generation, generations_of
from tuwen_search.records import Picture, picture_id
from tuwen_search.rows import why_not_kept
from tuwen_search.store import MilvusStore

__all__ = ["KeptSource", "Moved", "forget_source", "move_sources", "sources_of"]

_ROWS_AT_ONCE = 256
State = Literal["there", "empty", "gone", "no path"]
"""The state of a source's path. ``there``: a file, or a folder that is not empty. ``empty``: an empty folder, such as
the mount point of an unmounted disk. ``gone``: the path does not exist. ``no path``: a program made the source and gave
it a name that is not a path."""


@dataclass(frozen=True)
class KeptSource:
    """A source that was indexed into a collection.

    Attributes:
        name: the source's name in the collection: usually the absolute path of a folder or file.
        pictures: the number of pictures from this source.
        state: the present state of the source's path: ``there``, ``empty``, ``gone`` or ``no path``.
    """

    name: str
    pictures: int
    state: State


@dataclass(frozen=True)
class Moved:
    """The result of a move.

    Attributes:
        sources: the names of the sources before the move.
        moved: the number of pictures that got new paths.
        known: the number of pictures that the collection already had under the new path. The rows with the old path
            were removed.
    """

    sources: tuple[str, ...]
    moved: int
    known: int


def sources_of(store: MilvusStore, collection: str) -> list[KeptSource]:
    """Return the sources of a collection, sorted by name.

    Raises:
        CollectionNotFoundError: the store has no such collection.
        StoreError: the store failed.
    """
    counts = _counts(store, current_generation(store, collection).place)
    return [KeptSource(name, counts[name], _state(name)) for name in sorted(counts)]


def forget_source(store: MilvusStore, collection: str, source: str) -> int:
    """Remove all pictures of one source from a collection and return their number. The files are not touched.

    In a collection that was migrated, both the old and the new vectors of the pictures are removed.

    Args:
        source: the source's name in the collection, or another path of the same folder or file.

    Raises:
        SourceError: the collection has no such source. The message lists the collection's sources.
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    removed = None
    for generation in generations_of(store, collection):
        counts = _counts(store, generation.place)
        name = next((path for path in _spellings(source) if path in counts), None)
        if name is None:
            continue
        ids = [row["id"] for row in store.every(generation.place, [], source=name)]
        store.remove(generation.place, ids)
        store.flush(generation.place)
        removed = len(ids) if removed is None else removed
    if removed is None:
        raise _not_found(source, collection, _counts(store, current_generation(store, collection).place))
    return removed


def move_sources(store: MilvusStore, collection: str, old: str, new: str) -> Moved:
    """Change the paths of pictures whose files were moved. The vectors stay as they are.

    The sources at and below the old path get new paths. If a source lists pictures below the old path, the paths of
    these pictures are changed, too. To finish an interrupted move, call this function again.

    Args:
        old: the former path, which need not exist any more.
        new: the present path, which must exist.

    Raises:
        SourceError: the collection has no source at or below the old path, nothing is at the new path, or a picture's
            new path is too long for the store.
        CollectionNotFoundError, StoreError: the store has no such collection, or failed.
    """
    target = os.path.realpath(Path(new).expanduser())
    if not os.path.exists(target):
        raise SourceError(f"'{target}' does not exist; move the files there or mount their disk, then try again")
    places = {
        generation.place: _moving(store, generation.place, old) for generation in generations_of(store, collection)
    }
    if not any(places.values()):
        raise _not_found(old, collection, _counts(store, current_generation(store, collection).place))
    if any(start == target for moving in places.values() for start, _ in moving):
        raise SourceError(
            f"cannot move '{old}' to '{new}': both are the same path; pass the former path and the new path"
        )
    newest, *_ = [_moved_in(store, place, moving, target) for place, moving in places.items() if moving]
    return newest


def _moving(store: MilvusStore, place: str, old: str) -> list[tuple[str, str]]:
    """Return pairs of the old path, as the store spells it, and a source at or below this path."""
    counts = _counts(store, place)
    for spelling in _spellings(old):
        if moving := [(spelling, name) for name in sorted(counts) if _is_below(name, spelling)]:
            return moving
    return []


def _moved_in(store: MilvusStore, place: str, moving: Sequence[tuple[str, str]], target: str) -> Moved:
    """Change the paths of the pictures in one Milvus collection, and return the result of the move."""
    moved = known = 0
    moving = [(start, name) for start, name in moving if not (_is_below(target, start) and _is_below(name, target))]
    for start, name in moving:
        ids = iter([row["id"] for row in store.every(place, [], source=name)])
        while batch := list(islice(ids, _ROWS_AT_ONCE)):
            added = _move(store, place, batch, start, target)
            moved, known = moved + added, known + len(batch) - added
    store.flush(place)
    return Moved(tuple(name for _, name in moving), moved, known)


def _move(store: MilvusStore, collection: str, ids: Sequence[str], old: str, new: str) -> int:
    """Write rows with the new paths, then remove the old rows. Return the number of new rows."""
    rows = store.get(collection, ids)
    renamed = {_renamed(picture, old, new).id: (picture, vector) for picture, vector in rows.values()}
    present = store.get(collection, list(renamed))
    wanted = [(_renamed(picture, old, new), vector) for key, (picture, vector) in renamed.items() if key not in present]
    for picture, _ in wanted:
        if reason := why_not_kept({}, source=picture.source, name=picture.name):
            raise SourceError(f"cannot move '{picture.name}': {reason}")
    if wanted:
        store.put(collection, [picture for picture, _ in wanted], [vector for _, vector in wanted])
    store.remove(collection, ids)
    return len(wanted)


def _renamed(picture: Picture, old: str, new: str) -> Picture:
    source = _moved(picture.source, old, new)
    name = _moved(picture.name, old, new) if os.path.isabs(picture.name) else picture.name
    return replace(picture, id=picture_id(source, name), source=source, name=name)


def _moved(path: str, old: str, new: str) -> str:
    if not _is_below(path, old):
        return path
    rest = path[len(old.rstrip("/")) :].lstrip("/")
    return os.path.join(new, rest) if rest else new


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _counts(store: MilvusStore, place: str) -> Counter[str]:
    store.load(place)
    return store.sources(place)


def _spellings(path: str) -> Iterator[str]:
    """Yield the spellings of a path that a collection may have stored: as given, absolute, and with links resolved."""
    yield path
    absolute = os.path.abspath(os.path.expanduser(path))
    yield absolute
    yield os.path.realpath(absolute)


def _state(name: str) -> State:
    if not os.path.isabs(name):
        return "no path"
    try:
        with os.scandir(name) as entries:
            return "there" if next(entries, None) else "empty"
    except FileNotFoundError:
        return "gone"
    except NotADirectoryError:  # the path is a file, or lies below a file
        return "there" if os.path.lexists(name) else "gone"
    except OSError:  # the folder cannot be listed
        return "there"


def _not_found(source: str, collection: str, counts: Counter[str]) -> SourceError:
    known = ", ".join(f"'{name}'" for name in sorted(counts)[:10]) or "none"
    return SourceError(f"'{collection}' has no source '{source}'; its sources are: {known}")

"""The sources of pictures: a folder, a list of files, a table, or a tar archive as webdataset writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tuwen import InvalidArgumentError
from tuwen_files.file_versions import kind_of_node
from tuwen_files.image_files import IMAGE_SUFFIXES, image_files
from tuwen_files.text_files import read_lines
from tuwen_search.archives import is_archive, pictures_of_archive
from tuwen_search.entries import Entry, Found, Ignored, Unseen
from tuwen_search.errors import SourceError
from tuwen_search.files import found_file
from tuwen_search.tables import pictures_of_table
from tuwen_search.text_tables import is_text_table, looks_like_a_table, pictures_of_text_table

__all__ = ["Found", "Ignored", "Source", "Unseen", "open_source"]


@dataclass(frozen=True)
class Source:
    """A source of pictures in a stable order.

    Attributes:
        name: the source's name within a collection: usually the resolved path of a folder or file.
        pictures: a function that returns the entries, from the beginning with each call. A `Found` is a picture, an
            `Unseen` is a part that could not be read, and an `Ignored` stands for files that are not pictures.
        quick: whether the pictures can be listed, and so counted, without reading them.
        is_path: whether the name is a path, so that other paths of the same file or folder mean the same source.
    """

    name: str
    pictures: Callable[[], Iterable[Entry]]
    quick: bool = False
    is_path: bool = False


def open_source(path: Path) -> Source:
    """Return the source at a path: a folder, a tar archive, a table, or a text file with a path in each line.

    A table is a ``.parquet``, ``.csv``, ``.tsv`` or ``.jsonl`` file with a column of paths, or Parquet with images. The
    path is resolved, so ``photos``, ``../photos`` and a link to ``photos`` are one source.

    Raises:
        SourceError: the path does not exist or cannot be read.
    """
    try:
        path = path.expanduser().resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, or the home of an unknown user
        raise SourceError(f"cannot read '{path}': {error}") from error
    if path.is_dir():
        return Source(str(path), lambda: _folder(path), quick=True, is_path=True)
    if not path.exists():
        raise SourceError(f"'{path}' does not exist")
    if not path.is_file():
        raise SourceError(f"cannot read '{path}': expected a folder or a regular file, got {kind_of_node(path)}")
    if is_archive(path):
        return Source(str(path), lambda: pictures_of_archive(path), is_path=True)
    if path.suffix.lower() == ".parquet":
        return Source(str(path), lambda: pictures_of_table(path), is_path=True)
    if is_text_table(path):
        return Source(str(path), lambda: pictures_of_text_table(path), quick=True, is_path=True)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SourceError(f"'{path}' is a single picture; pass its folder, or a text file that lists pictures")
    return Source(str(path), lambda: _listed(path), quick=True, is_path=True)


def _folder(root: Path) -> Iterator[Entry]:
    """Yield the image files in a folder and its subfolders, then unreadable parts, then other files."""
    unseen: list[Unseen] = []
    left_out: dict[str, list[str]] = {}

    def note(path: Path, error: OSError) -> None:
        name = "" if path == root else path.relative_to(root).as_posix()
        prefix = f"{name}/" if name and _is_folder(path) else name
        message = f"cannot read '{path}': {error.strerror or error}; its pictures stay in the collection"
        unseen.append(Unseen(name or str(root), "unreadable", message, prefix))

    def leave_out(path: Path, kind: str) -> None:
        left_out.setdefault(kind, []).append(path.relative_to(root).as_posix())

    for path in image_files(root, left_out=leave_out, unreadable=note):
        yield found_file(path, path.relative_to(root).as_posix())
    yield from unseen
    yield from (Ignored(kind, len(names), tuple(names)) for kind, names in left_out.items())


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _listed(path: Path) -> Iterator[Entry]:
    """Yield the pictures that a text file lists, by absolute path. Relative paths begin at the folder of the list."""
    try:
        lines = read_lines(path)
    except InvalidArgumentError as error:
        raise SourceError(f"{error}; expected a list with the path of a picture in each line") from error
    if lines and looks_like_a_table(lines[0]) and not (path.parent / lines[0]).exists():
        raise SourceError(
            f"'{path}': expected a list with one path in each line, got what looks like a table: its first line is "
            f"'{lines[0][:80]}'. If it is a table, rename it to end in .csv, .tsv or .jsonl"
        )
    for picture in dict.fromkeys(path.parent / line for line in lines):
        yield found_file(picture, str(picture))

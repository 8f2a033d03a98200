"""Pictures in tar archives, plain or compressed, as webdataset writes them. Damage is reported, not skipped."""

from __future__ import annotations

import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuwen import MissingExtraError
from tuwen_files.image_files import HEAD_BYTES, IMAGE_SUFFIXES, is_image, kind_of_file
from tuwen_search.entries import Entry, Ignored, Unseen, filterable, held, one_line
from tuwen_search.errors import SourceError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["is_archive", "pictures_of_archive"]

_SUFFIXES = (
    *(".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"),
    *(".tar.bz2", ".tbz2", ".tar.xz", ".txz"),
)
_ZSTD = b"\x28\xb5\x2f\xfd"
_MODES = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\x00": "r:xz", b"\x5d\x00\x00": "r:xz"}
_PIECE = 1 << 20
_TEXTS = {".txt": "caption", ".caption": "caption", ".cls": "class", ".json": ""}
_LONGEST_TEXT = 32_768  # bytes; a picture's metadata has at most 64 KiB in a collection
_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""The errors that a damaged archive causes. `tarfile` passes on the errors of the decompressors."""


def is_archive(path: Path) -> bool:
    """Return whether a file is named like a tar archive: ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.zst`` and others."""
    return path.name.lower().endswith(_SUFFIXES)


def pictures_of_archive(path: Path) -> Iterator[Entry]:
    """Yield the members that are pictures, in the order in which they were written.

    Successive members whose names differ only in the suffix are one sample, as in webdataset. A member
    ``.txt`` or ``.caption`` gives the sample's pictures the metadata ``caption``, and a member ``.cls`` the metadata
    ``class``. The fields of a member ``.json`` are metadata, too. If the archive is damaged, the last entry is an
    `Unseen`, which stands for the unreadable rest.

    Raises:
        SourceError: the file is not a tar archive, or is damaged before its first member.
        MissingExtraError: the archive is compressed with Zstandard and pyarrow is not installed.
    """
    with ExitStack() as opened:
        try:
            archive = _opened(path, opened)
        except _DAMAGE as error:
            raise SourceError(
                f"cannot read '{path}': not a tar archive, or damaged at its start ({one_line(error)})"
            ) from error
        last, sample = "", _Sample("")
        try:
            for member in archive:
                stem = str(Path(member.name).with_suffix(""))
                if stem != sample.stem:
                    yield from sample.entries()
                    sample = _Sample(stem)
                if not member.isdir():
                    sample.take(archive, member)
                    last = member.name
            yield from sample.entries()
            sample = _Sample("")
            _read_to_the_end(archive)
        except _DAMAGE as error:
            yield from sample.entries()
            place = f"after its member '{last}'" if last else "at its first member"
            message = f"'{path}' is damaged {place} ({one_line(error)}); the rest could not be read"
            yield Unseen(path.name, "damaged", message)


class _Sample:
    """The members of one sample: pictures, and the texts that describe the pictures."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self._pictures: list[tuple[str, bytes]] = []
        self._texts: list[tuple[Ignored, dict[str, Any]]] = []
        self._ignored: list[Ignored] = []

    def take(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Read one member of the archive, and add it to the sample. Raise the errors of `tarfile` unchanged."""
        suffix = Path(member.name).suffix.lower()
        ignored = Ignored(kind_of_file(member.name, regular=member.isfile()), names=(member.name,))
        if member.isfile() and (suffix in IMAGE_SUFFIXES or not suffix):
            file = archive.extractfile(member)
            head = file.read(HEAD_BYTES) if file else b""
            if is_image(member.name, lambda: head):
                self._pictures.append((member.name, head + (file.read() if file else b"")))
            else:
                self._ignored.append(ignored)
        elif member.isfile() and suffix in _TEXTS and member.size <= _LONGEST_TEXT:
            file = archive.extractfile(member)
            told = _told(suffix, file.read() if file else b"")
            if told:
                self._texts.append((ignored, told))
            else:
                self._ignored.append(ignored)
        else:
            self._ignored.append(ignored)

    def entries(self) -> Iterator[Entry]:
        """Yield the pictures with their metadata, then the members that are neither pictures nor metadata."""
        metadata = {name: value for _, told in self._texts for name, value in told.items()}
        for name, data in self._pictures:
            yield held(name, data, metadata)
        yield from self._ignored
        if not self._pictures:
            yield from (ignored for ignored, _ in self._texts)


def _told(suffix: str, content: bytes) -> dict[str, Any]:
    """Return the metadata in a text member; empty if the member is blank, not UTF-8, or invalid as ``.json``."""
    try:
        text = content.decode("utf-8-sig").strip()
        if suffix != ".json":
            return {_TEXTS[suffix]: text} if text else {}
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return filterable(fields) if isinstance(fields, dict) else {}


class _StrictTarInfo(tarfile.TarInfo):
    """A member whose damaged header raises an error. `tarfile` itself takes this header for the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the mark that ends an archive
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(
                f"cut off at byte {archive.offset:,}: expected a header or the archive's end"
            ) from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged header at byte {archive.offset:,}: {error}") from error


def _opened(path: Path, until: ExitStack) -> tarfile.TarFile:
    with path.open("rb") as file:
        start = file.read(6)
    if not start.startswith(_ZSTD):
        mode: Any = next((mode for magic, mode in _MODES.items() if start.startswith(magic)), "r:")
        return until.enter_context(tarfile.open(path, mode, tarinfo=_StrictTarInfo))
    try:
        import pyarrow as arrow  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(f"reading .tar.zst needs an extra ({error}): pip install 'tuwen[parquet]'") from error
    stream = until.enter_context(arrow.input_stream(str(path), compression="zstd"))
    return until.enter_context(tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictTarInfo))


def _read_to_the_end(archive: tarfile.TarFile) -> None:
    """Read the bytes after the last member, so that the checksum of a compressed archive is checked.

    Raises:
        tarfile.ReadError: the archive goes on after the zeros at its supposed end, so the zeros are a damaged header.
    """
    file: Any = archive.fileobj
    while piece := file.read(_PIECE):
        if piece.strip(b"\0"):
            raise tarfile.ReadError(f"the archive ends with zeros at byte {archive.offset:,}, but more data follows")

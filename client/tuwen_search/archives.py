"""Pictures in tar archives, plain or compressed, as webdataset writes them. Every damage is reported."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuwen import MissingExtraError
from tuwen._folders import IMAGE_SUFFIXES, kind_of_file
from tuwen_search.entries import Entry, Ignored, Unseen, held, one_line
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
_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What reading a damaged archive raises: `tarfile` passes the errors of the decompressors on."""


def is_archive(path: Path) -> bool:
    """Return whether a file is named like a tar archive: ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.zst`` and others."""
    return path.name.lower().endswith(_SUFFIXES)


def pictures_of_archive(path: Path) -> Iterator[Entry]:
    """Yield the members that are pictures, in the order in which they were written.

    At a damaged place the archive ends with an `Unseen`: nobody knows what follows.

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
        last = ""
        try:
            for member in archive:
                if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                    file = archive.extractfile(member)
                    picture = held(member.name, file.read() if file else None, {})
                    last = member.name
                    yield picture
                elif not member.isdir():
                    last = member.name
                    yield Ignored(kind_of_file(member.name, regular=member.isfile()))
            _read_to_the_end(archive)
        except _DAMAGE as error:
            place = f"after its member '{last}'" if last else "at its first member"
            message = f"'{path}' is damaged {place} ({one_line(error)}); what follows could not be read"
            yield Unseen(path.name, "damaged", message)


class _StrictTarInfo(tarfile.TarInfo):
    """A member whose damaged header is an error. `tarfile` itself takes one after the first for the archive's end."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the mark that ends an archive
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"cut off at byte {archive.offset:,}: no mark of an end") from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"header at byte {archive.offset:,}: {error}") from error


def _opened(path: Path, until: ExitStack) -> tarfile.TarFile:
    with path.open("rb") as file:
        start = file.read(6)
    if not start.startswith(_ZSTD):
        mode: Any = next((mode for magic, mode in _MODES.items() if start.startswith(magic)), "r:")
        return until.enter_context(tarfile.open(path, mode, tarinfo=_StrictTarInfo))
    try:
        import pyarrow as arrow  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError(f".tar.zst needs an extra ({error}): pip install 'tuwen[parquet]'") from error
    stream = until.enter_context(arrow.input_stream(str(path), compression="zstd"))
    return until.enter_context(tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictTarInfo))


def _read_to_the_end(archive: tarfile.TarFile) -> None:
    """Read what follows the last member, so that the checksum at the end of a compressed archive is compared.

    Raises:
        tarfile.ReadError: something other than zeros follows, so the mark of an end is a damaged header.
    """
    file: Any = archive.fileobj
    while piece := file.read(_PIECE):
        if piece.strip(b"\0"):
            raise tarfile.ReadError(f"zeros at byte {archive.offset:,} end the archive, but data follows")

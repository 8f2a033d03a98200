"""Readers of UTF-8 text files with any line endings, with or without a byte order mark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tuwen import InvalidArgumentError

__all__ = ["numbered_lines", "read_lines"]

_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_lines(source: Path | BinaryIO) -> list[str]:
    """Return the non-blank lines of a text file. White space at both ends of a line is removed.

    Args:
        source: a path, or a binary stream such as ``sys.stdin.buffer``.

    Raises:
        InvalidArgumentError: the file cannot be read, or is not UTF-8. The message names the file and the line.
    """
    return [text for _, line in numbered_lines(source) if (text := line.strip())]


def numbered_lines(source: Path | BinaryIO) -> Iterator[tuple[int, str]]:
    r"""Yield the number of each line, from 1, and the line without its line ending.

    Lines end with ``\n`` or ``\r\n``. Other line ends of Unicode (U+2028, U+0085, form feed) are part of a line,
    because they occur within texts. A byte order mark at the start is not part of the first line.

    Raises:
        InvalidArgumentError: the file cannot be read, or is not UTF-8. The message names the file and the line.
    """
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                yield from _decoded(file, f"'{source}'")
        except OSError as error:
            raise InvalidArgumentError(f"cannot read '{source}': {error.strerror or error}") from error
    else:
        yield from _decoded(source, "standard input" if getattr(source, "name", "") == "<stdin>" else "the stream")


def _decoded(file: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(file, 1):
        line = raw
        if number == 1:
            if encoding := _OTHER_MARKS.get(raw[:2]):
                raise InvalidArgumentError(f"expected UTF-8 in {name}, got {encoding}; save the file as UTF-8")
            line = raw.removeprefix(_UTF8_MARK)
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidArgumentError(
                f"{name}, line {number}: byte {error.start + 1} is not UTF-8; save the file as UTF-8 "
                "(files from Chinese Windows are often GBK)"
            ) from error
        if 2 * text.count("\0") >= max(len(text) - 1, 2):
            raise InvalidArgumentError(
                f"{name}, line {number}: every second character is NUL, as in UTF-16; save the file as UTF-8"
            )
        yield number, text.removesuffix("\n").removesuffix("\r")

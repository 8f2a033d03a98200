"""Text files with any line endings, with or without a byte order mark. An encoding other than UTF-8 is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tuwen import InvalidArgumentError
from tuwen_files.text_files import numbered_lines, read_lines


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_byte_order_marks_and_line_endings_are_removed(tmp_path: Path, mark: bytes, end: bytes) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(mark + "一只猫".encode() + end + b" a dog " + end + end + "无尾".encode())
    assert list(numbered_lines(path)) == [(1, "一只猫"), (2, " a dog "), (3, ""), (4, "无尾")]
    assert read_lines(path) == ["一只猫", "a dog", "无尾"]
    assert list(numbered_lines(io.BytesIO(path.read_bytes()))) == list(numbered_lines(path))


@pytest.mark.parametrize("within", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_other_line_separators_stay_within_their_line(tmp_path: Path, within: str) -> None:
    path = tmp_path / "texts.txt"
    path.write_text(f"a{within}b\nc", encoding="utf-8")
    assert [line for _, line in numbered_lines(path)] == [f"a{within}b", "c"]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", "expected UTF-8 in .*, got UTF-16"),
        ("utf-16-le", "line 1: every second character is NUL, as in UTF-16; save the file as UTF-8"),
        ("utf-16-be", "line 1: every second character is NUL"),
        ("gbk", r"line 2: byte 1 is not UTF-8; .*GBK"),
    ],
)
def test_another_encoding_is_named_with_its_line(tmp_path: Path, encoding: str, message: str) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("a dog\n自行车\n", encoding=encoding)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        read_lines(path)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cannot read '.*none\.txt': No such file"):
        read_lines(tmp_path / "none.txt")

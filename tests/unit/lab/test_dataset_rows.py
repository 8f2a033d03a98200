"""Rows of a data set are validated once, and a bad row is named by file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuwen import InvalidArgumentError
from tuwen_build.evaluation import RetrievalSplit


def split(folder: Path, texts: bytes) -> RetrievalSplit:
    (folder / "test_imgs.tsv").write_bytes(b"7\tAA==\n")
    (folder / "test_texts.jsonl").write_bytes(texts)
    return RetrievalSplit(folder)


def test_a_byte_order_mark_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    rows = b'\xef\xbb\xbf{"text_id": 1, "text": "a", "image_ids": [7]}\r\n\r\n{"text_id": 2, "text": "b"}'
    assert split(tmp_path, rows).texts() == [(1, "a"), (2, "b")]


def test_ids_may_be_written_as_strings(tmp_path: Path) -> None:
    rows = split(tmp_path, b'{"text_id": "1", "text": "a", "image_ids": ["7"]}')
    assert rows.texts() == [(1, "a")]
    assert rows.truths() == {1: [7]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b'{"text_id": 2, "text": null}', "field 'text': expected a string, got null"),
        (b'{"text_id": 2, "text": 5}', "field 'text': expected a string, got 5"),
        (b'{"text_id": 2}', "field 'text': expected a string, got null"),
        (b'{"text_id": "x", "text": "a"}', "field 'text_id': expected an integer, got \"x\""),
        (b'{"text_id": true, "text": "a"}', "field 'text_id': expected an integer, got true"),
        (b'{"text_id": 1.5, "text": "a"}', "field 'text_id': expected an integer, got 1.5"),
        (b'{"text_id": 2, "text": "a", "image_ids": 7}', "field 'image_ids': expected a list, got 7"),
        (b'{"text_id": 2, "text": "a", "image_ids": [null]}', "field 'image_ids': expected an integer, got null"),
        (b"[1]", "expected an object with text_id and text, got list"),
        (b"{", "not JSON"),
        ('{"text_id": 2, "text": "自行车"}'.encode("gbk"), "is not UTF-8"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path: Path, row: bytes, message: str) -> None:
    rows = split(tmp_path, b'{"text_id": 1, "text": "a"}\n' + row)
    with pytest.raises(InvalidArgumentError) as caught:
        rows.texts()
    assert f"'{tmp_path / 'test_texts.jsonl'}', line 2" in str(caught.value)
    assert message in str(caught.value)

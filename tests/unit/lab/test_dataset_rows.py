"""The rows of a data set: which rows are valid, and errors that name the file, line and field of a bad row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import tuwen
from tuwen import InvalidArgumentError
from tuwen_lab.datasets import RetrievalSplit


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
        (b'{"text_id": 2, "text": "a", "image_ids": [7, 8]}', "field 'image_ids': "),
        (b'{"text_id": 2, "text": "a", "image_ids": [8]}', "test_imgs.tsv' has no image 8"),
        (b'{"text_id": 1, "text": "b"}', "field 'text_id': the id 1 is repeated"),
        (b"{", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        ('{"text_id": 2, "text": "自行车"}'.encode("gbk"), "is not UTF-8"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path: Path, row: bytes, message: str) -> None:
    rows = split(tmp_path, b'{"text_id": 1, "text": "a"}\n' + row)
    with pytest.raises(InvalidArgumentError) as caught:
        rows.texts()
    assert f"'{tmp_path / 'test_texts.jsonl'}', line 2" in str(caught.value)
    assert message in str(caught.value)


class TestImages:
    def rows(self, folder: Path, images: bytes) -> RetrievalSplit:
        split(folder, b'{"text_id": 1, "text": "a", "image_ids": [7]}\n')
        (folder / "test_imgs.tsv").write_bytes(images)
        return RetrievalSplit(folder)

    def test_a_byte_order_mark_and_blank_lines_are_skipped(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path, b"\xef\xbb\xbf7\tAA==\r\n\n8\tAQ==\n\n")
        assert list(rows.images()) == [(7, b"\0"), (8, b"\1")]
        content = (tmp_path / "test_imgs.tsv").read_bytes()
        lines = [content[place.offset : place.offset + place.length] for place in rows.image_places()]
        assert [rows.decode_image(line, 1) for line in lines] == [b"\0", b"\1"]

    @pytest.mark.parametrize("images", ["7\tAA==\n".encode("utf-16"), b"7 AA==\n", b"x\tAA==\n"])
    def test_a_line_without_an_id_says_what_was_expected(self, tmp_path: Path, images: bytes) -> None:
        rows = self.rows(tmp_path, images)
        with pytest.raises(InvalidArgumentError, match=r"test_imgs.tsv, line 1: expected an integer, a tab"):
            rows.image_places()

    @pytest.mark.parametrize("reader", ["images", "image_places"])
    def test_a_repeated_id_is_named_by_its_line(self, tmp_path: Path, reader: str) -> None:
        rows = self.rows(tmp_path, b"7\tAA==\n8\tAA==\n7\tAQ==\n")
        with pytest.raises(InvalidArgumentError, match=r"test_imgs.tsv, line 3: the id 7 is repeated"):
            list(getattr(rows, reader)())


class TestSkipping:
    IMAGES = b"7\tAA==\nx\tAA==\n8\t!\nno tab\n7\tAQ==\n9\tAA==\n"
    TEXTS = (
        b'{"text_id": 1, "text": "a", "image_ids": [7, 8]}\n{"text_id": 2, "text": null}\n'
        b'{"text_id": 3, "text": "c", "image_ids": [8]}\n{"text_id": 4, "text": "d", "image_ids": [404]}\n'
    )

    def rows(self, folder: Path, **options: bool) -> RetrievalSplit:
        split(folder, self.TEXTS)
        (folder / "test_imgs.tsv").write_bytes(self.IMAGES)
        return RetrievalSplit(folder, skip_bad_rows=True, **options)

    def test_bad_rows_are_left_out_and_each_is_named(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path)
        assert list(rows.images()) == [(7, b"\0"), (9, b"\0")]
        assert [place.image_id for place in rows.image_places()] == [7, 9]
        assert rows.texts() == [(1, "a")]
        assert rows.truths() == {1: [7]}
        images = [f"test_imgs.tsv, line {number}: " for number in (2, 3, 4, 5)]
        texts = [f"test_texts.jsonl', line {number}, field " for number in (2, 3, 4)]
        assert len(rows.skipped) == len(images + texts)
        for reason, place in zip(rows.skipped, images + texts, strict=True):
            assert place in reason
        assert "the id 7 is repeated" in rows.skipped[3]
        assert "cannot read any image of this text: 404" in rows.skipped[-1]

    def test_a_text_with_a_repeated_id_is_left_out(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path)
        (tmp_path / "test_texts.jsonl").write_bytes(b'{"text_id": 1, "text": "a"}\n{"text_id": 1, "text": "b"}\n')
        assert rows.texts() == [(1, "a")]
        assert "line 2, field 'text_id': the id 1 is repeated" in rows.skipped[-1]

    def test_images_without_a_text_are_left_out_for_training(self, tmp_path: Path) -> None:
        rows = self.rows(tmp_path, skip_silent_images=True)
        assert [place.image_id for place in rows.image_places()] == [7]
        assert "line 6: no text fits the image 9" in rows.skipped[-1]

    def test_without_the_option_bad_rows_are_refused(self, tmp_path: Path) -> None:
        self.rows(tmp_path)
        rows = RetrievalSplit(tmp_path)
        assert rows.skipped == []
        with pytest.raises(InvalidArgumentError, match="line 2"):
            list(rows.images())

    def test_skipping_bad_rows_does_not_accept_a_file_that_is_not_utf_8(self, tmp_path: Path) -> None:
        self.rows(tmp_path)
        (tmp_path / "test_texts.jsonl").write_bytes('{"text_id": 2, "text": "自行车"}'.encode("gbk"))
        with pytest.raises(InvalidArgumentError, match="is not UTF-8"):
            RetrievalSplit(tmp_path, skip_bad_rows=True).texts()

    def test_the_command_counts_the_rows_that_it_skips(self, tmp_path: Path) -> None:
        self.rows(tmp_path)
        features = []
        for kind, ids in (("image", (7, 9)), ("text", (1,))):
            path = tmp_path / f"{kind}.jsonl"
            path.write_text("".join(f'{{"{kind}_id": {one}, "feature": [1, {one}]}}\n' for one in ids))
            features += [f"--{kind}-features", str(path)]
        arguments = ("evaluate", "retrieval", str(tmp_path), *features)
        assert "line 2" in tuwen(*arguments, code=1).stderr
        done = tuwen(*arguments, "--skip-bad-rows", "--json")
        assert "7 bad rows were skipped" in done.stderr
        assert json.loads(done.stdout)["skipped_rows"] == 7

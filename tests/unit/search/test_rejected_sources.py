"""An error about a source that cannot be read says what the program expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.collections import picture
from tuwen import InvalidArgumentError, InvalidItemsError, ItemFailure, RefusedItem
from tuwen_search.entries import Entry
from tuwen_search.errors import SourceError
from tuwen_search.query import embedded_texts
from tuwen_search.sources import open_source
from tuwen_search.web import WebOptions


def entries(path: Path) -> list[Entry]:
    return list(open_source(path).pictures())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cat.png", picture(3), "is a single picture; pass its folder, or a text file that lists pictures"),
        ("list.txt", b"\xff\xfe\x00", "expected a list with the path of a picture in each line"),
        ("table.csv", b"image\n\xff\n", "cannot read '.*table.csv' as a table: .* not UTF-8"),
        ("table.jsonl", b'{"image": "\xff"}\n', "cannot read '.*table.jsonl' as a table: .* not UTF-8"),
    ],
)
def test_the_error_of_a_rejected_source_says_what_was_expected(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        entries(tmp_path / name)


def test_a_parquet_table_needs_a_column_of_images(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"price": [3], "name": ["cat"]}), tmp_path / "shop.parquet")
    with pytest.raises(SourceError, match=r"expected a column of images \(image, .*got only the columns price, name"):
        entries(tmp_path / "shop.parquet")


def test_a_refused_text_of_a_query_is_an_error() -> None:
    refused = RefusedItem(0, "猫", ItemFailure(0, "too_many_bytes", "too long"))
    with pytest.raises(InvalidItemsError, match="too long"):
        embedded_texts([refused])


def test_the_page_names_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="--pictures: expected a folder, got"):
        WebOptions("shop", folders=(tmp_path / "photos",))

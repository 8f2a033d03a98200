"""Indexing into a collection: with either client, on Milvus Lite and (in `make test-all`) on a Milvus server."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.collections import Open, found, picture, write
from tuwen.testing import FakeTransport
from tuwen_search import Query
from tuwen_search.errors import SourceError
from tuwen_search.sources import Found, Source


class Interrupted(Exception):  # noqa: N818 - as Ctrl-C would, which ends an event loop
    pass


def test_indexes_and_searches_a_folder(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "猫 & <狗>").mkdir()
    write(tmp_path, red=200, green=10)
    (tmp_path / "猫 & <狗>" / 'it"s \\ here.png').write_bytes(picture(99))
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    pictures = opened()
    report = pictures.add(tmp_path)
    assert (report.added, report.changed, report.unchanged, report.removed) == (3, 0, 0, 0)
    assert report.failures == []
    assert pictures.count() == 3
    results = pictures.search(Query(image=tmp_path / "red.png"), limit=3)
    best = results.hits[0]
    assert best.picture.name == "red.png"
    assert best.picture.source == str(tmp_path)
    assert best.score == pytest.approx(1, abs=1e-5)
    assert best.parts == {"picture": pytest.approx(1, abs=1e-5)}
    assert (best.picture.width, best.picture.height) == (16, 32)
    assert best.picture.file_size == len(picture(200))
    with Image.open(io.BytesIO(best.picture.thumbnail)) as thumbnail:
        assert thumbnail.size == (16, 32)
    assert set(found(results)) == {"red.png", "green.png", '猫 & <狗>/it"s \\ here.png'}
    assert pictures.get(best.picture.id) == best.picture
    assert pictures.get("0" * 32) is None


def test_a_second_run_handles_only_new_changed_and_missing_pictures(opened: Open, tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2, c=3)
    fake = FakeTransport(embedding_dimension=32)
    pictures = opened(fake)
    pictures.add(tmp_path)
    sent = len(fake.requests)
    report = pictures.add(tmp_path)
    assert (report.added, report.unchanged) == (0, 3)
    assert len(fake.requests) == sent
    write(tmp_path, b=200, d=4)
    os.utime(tmp_path / "b.png", ns=(1, 1))
    (tmp_path / "c.png").unlink()
    report = pictures.add(tmp_path)
    assert (report.added, report.changed, report.unchanged, report.removed) == (1, 1, 1, 1)
    assert set(found(pictures.search("猫"))) == {"a.png", "b.png", "d.png"}
    assert found(pictures.search(Query(image=picture(200)), limit=1)) == ["b.png"]
    (tmp_path / "a.png").unlink()
    assert pictures.add(tmp_path, keep_removed=True).removed == 0
    assert pictures.count() == 3


def test_leaves_out_and_reports_a_broken_picture(opened: Open, tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "secret.jpg").symlink_to(tmp_path / "nowhere.jpg")
    pictures = opened()
    report = pictures.add(tmp_path)
    assert report.added == 2
    assert sorted((failure.name, failure.reason) for failure in report.failures) == [
        ("broken.png", "unsupported_format"),
        ("secret.jpg", "unreadable"),
    ]
    (tmp_path / "b.png").write_bytes(b"broken meanwhile")
    report = pictures.add(tmp_path)
    assert report.removed == 1  # its row no longer matches the file
    assert found(pictures.search("猫")) == ["a.png"]


def test_leaves_out_and_reports_names_and_metadata_that_are_too_long(opened: Open, tmp_path: Path) -> None:
    def pictures() -> Iterator[Found]:
        for name, metadata in (
            ("good", {"longest": "猫" * 21_000}),
            ("a\udcff.png", {}),
            ("猫" * 1366, {}),
            ("much", {"longest": "猫" * 22_000}),
        ):
            yield Found(name, "1", lambda: picture(1), metadata)

    collection = opened()
    report = collection.add(Source("somewhere", pictures))
    assert report.added == collection.count() == 1
    assert [(failure.name[:7], failure.reason, failure.message) for failure in report.failures] == [
        ("a\\udcff", "unfit", "the picture's name is not UTF-8"),
        ("猫" * 7, "unfit", "the picture's name has 4,098 bytes; the maximum is 4,096"),
        ("much", "unfit", "the picture's metadata has 66,015 bytes; the maximum is 65,536"),
    ]
    with pytest.raises(SourceError, match="the source's path is not UTF-8"):
        collection.add(Source("\udcff", pictures))
    odd = tmp_path / os.fsdecode(b"\xff.png")
    odd.write_bytes(picture(1))
    assert [failure.name for failure in collection.add(tmp_path).failures] == ["\\udcff.png"]


def test_continues_an_interrupted_run(opened: Open) -> None:
    names = [f"{number:04}" for number in range(600)]
    read: list[str] = []

    def pictures_of(limit: int) -> Iterator[Found]:
        for number, name in enumerate(names):
            if number == limit:
                raise Interrupted
            read.append(name)
            yield Found(name, "1", lambda number=number: picture(number % 256, 1 + number // 256))

    collection = opened()
    for limit in (300, 400):
        with pytest.raises(Interrupted):
            collection.add(Source("mine", lambda limit=limit: pictures_of(limit)))
    assert 200 < collection.count() <= 400
    report = collection.add(Source("mine", lambda: pictures_of(10_000)))
    assert report.added + report.unchanged == 600
    assert collection.count() == 600


def test_adding_a_source_keeps_the_pictures_of_another_source(opened: Open, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, a=1, b=2)
    pictures = opened()
    pictures.add(tmp_path / "one")
    pictures.add(tmp_path / "two")
    (tmp_path / "one" / "a.png").unlink()
    pictures.add(tmp_path / "one")
    assert pictures.count() == 3
    one, two = (str(tmp_path / name / "b.png") for name in ("one", "two"))
    assert pictures.duplicates() == [[one, two]]


def test_indexes_lists_archives_and_tables(opened: Open, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write(tmp_path, a=1, b=2)
    (tmp_path / "list.txt").write_text("a.png\n\nb.png\na.png\nmissing.png\n", encoding="utf-8")
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.add(tmp_path / name, arcname=name)
    rows = {
        "image": [{"bytes": picture(5), "path": None}, {"bytes": None, "path": "x"}],
        "id": ["五", "none"],
        "year": [2024, 2020],
    }
    parquet.write_table(arrow.table(rows), tmp_path / "rows.parquet")
    pictures = opened()
    report = pictures.add(tmp_path / "list.txt")
    assert report.added == 2
    assert [(failure.name, failure.reason) for failure in report.failures] == [
        (str(tmp_path / "missing.png"), "unreadable")
    ]
    assert pictures.add(tmp_path / "shard.tar").added == 2
    assert pictures.add(tmp_path / "shard.tar").unchanged == 2
    report = pictures.add(tmp_path / "rows.parquet")
    assert (report.added, [failure.name for failure in report.failures]) == (1, [str(tmp_path / "x")])
    hits = pictures.search("猫", where='metadata["year"] > 2021').hits
    assert [(hit.picture.name, dict(hit.picture.metadata)) for hit in hits] == [("五", {"id": "五", "year": 2024})]
    assert pictures.count() == 5

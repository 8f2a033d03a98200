"""When a source is indexed again, only changed pictures are read and embedded again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collections import found, picture, write
from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_search import Collection, Query
from tuwen_search.sources import Found, Source
from tuwen_search.store import MilvusStore


@pytest.fixture
def fake() -> FakeTransport:
    return FakeTransport(embedding_dimension=16)


@pytest.fixture
def collection(store: MilvusStore, fake: FakeTransport) -> Iterator[Collection]:
    if "pictures" in store.names():
        store.drop("pictures")
    with Client(transport=fake) as client:
        yield Collection.open("pictures", client, store=store, create=True)


def test_the_checksum_decides_if_only_the_time_differs(
    collection: Collection, fake: FakeTransport, tmp_path: Path
) -> None:
    write(tmp_path, a=1)
    collection.add(tmp_path)
    sent = len(fake.requests)
    os.utime(tmp_path / "a.png", ns=(1, 1))
    report = collection.add(tmp_path)
    assert (report.changed, report.unchanged, report.updated) == (0, 1, 0)
    assert len(fake.requests) == sent
    [hit] = collection.search(Query(image=picture(1))).hits
    assert hit.picture.version == f"{(tmp_path / 'a.png').stat().st_size}-1"


def test_new_metadata_is_written_without_reading_a_picture(
    collection: Collection, fake: FakeTransport, tmp_path: Path
) -> None:
    from tuwen_search.files import found_file

    write(tmp_path, a=1, b=2)
    prices = {"a": 5, "b": 50}

    def shop() -> Iterator[Found]:
        for name, price in prices.items():
            yield found_file(tmp_path / f"{name}.png", name, {"price": price})

    source = Source("shop", shop)
    assert collection.add(source).added == 2
    sent = len(fake.requests)
    prices["a"] = 500
    before = (tmp_path / "a.png").stat()
    (tmp_path / "a.png").write_bytes(b"x" * before.st_size)
    os.utime(tmp_path / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    report = collection.add(source)
    assert (report.added, report.changed, report.updated, report.unchanged) == (0, 0, 1, 1)
    assert len(fake.requests) == sent
    assert found(collection.search(Query(image=picture(1)), where='metadata["price"] > 100')) == ["a"]
    assert collection.add(source).unchanged == 2


def test_new_metadata_of_pictures_in_a_table_keeps_their_vectors(
    collection: Collection, fake: FakeTransport, tmp_path: Path
) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "shop.parquet"
    for price, expected in ((5, (1, 0)), (7, (0, 1))):
        parquet.write_table(arrow.table({"image": [picture(1)], "id": ["a"], "price": [price]}), path)
        sent = len(fake.requests)
        report = collection.add(path)
        assert (report.added, report.updated) == expected
        assert len(fake.requests) == sent + report.added
    [hit] = collection.search("猫").hits
    assert dict(hit.picture.metadata) == {"id": "a", "price": 7}

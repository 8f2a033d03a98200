"""CSV, TSV and JSON Lines tables are sources of pictures with typed metadata, which can be filtered and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.collections import found, picture, write
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen_search import Collection
from tuwen_search.errors import QueryError, SourceError
from tuwen_search.filters import expanded
from tuwen_search.sources import Found, Source, open_source
from tuwen_search.text_tables import pictures_of_text_table

CSV = "path,price,类别,sku,new\na.png,5,鞋,007,true\nb.png,50.5,帽子,8,false\nc.png,,鞋,9,true\n"


def metadata(path: Path, content: str) -> list[dict[str, object]]:
    path.write_text(content, encoding="utf-8-sig")
    return [dict(entry.metadata) for entry in pictures_of_text_table(path) if hasattr(entry, "metadata")]


def test_a_column_of_csv_has_one_type(tmp_path: Path) -> None:
    assert metadata(tmp_path / "shop.csv", CSV) == [
        {"price": 5.0, "类别": "鞋", "sku": "007", "new": True},
        {"price": 50.5, "类别": "帽子", "sku": "8", "new": False},
        {"类别": "鞋", "sku": "9", "new": True},
    ]


def test_reads_tabs_quotes_and_json_lines(tmp_path: Path) -> None:
    assert metadata(tmp_path / "a.tsv", 'file_name\ttitle\na.png\t"two\nlines"\n') == [{"title": "two\nlines"}]
    assert metadata(tmp_path / "a.csv", "path,x,y\na.png,5,true\nb.png,true,1.5\n") == [
        {"x": "5", "y": "true"},
        {"x": "true", "y": "1.5"},
    ]
    rows = ['{"image": "a.png", "price": 5, "nested": {}}', "[1]", '{"image": "b.png", "price": "x"}']
    assert metadata(tmp_path / "a.jsonl", "\n".join(rows)) == [{"price": 5}, {"price": "x"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "picture,price\na.png,5\n", "expected one of image, image_path"),
        ("a.csv", "", "got none"),
        ("a.jsonl", '{"price": 5}\n', "line 1, has no column of paths"),
        ("a.txt", "path,price\na.png,5\n", "looks like a table.*rename it to end in .csv"),
        ("a.txt", '{"path": "a.png"}\n', "looks like a table"),
    ],
)
def test_the_error_of_a_rejected_table_says_what_was_expected(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        list(open_source(tmp_path / name).pictures())


@pytest.mark.parametrize(
    ("where", "written_out"),
    [
        ("price < 9", 'metadata["price"] < 9'),
        ('价格 >= 1e3 AND 类别 in ["鞋"]', 'metadata["价格"] >= 1e3 AND metadata["类别"] in ["鞋"]'),
        ('metadata["price"] < 9 and width > 5', 'metadata["price"] < 9 and width > 5'),
        (
            "name like 'price %' or json_contains(tags, 1)",
            "name like 'price %' or json_contains(metadata[\"tags\"], 1)",
        ),
        (r'title == "a \" price" && not sold', r'metadata["title"] == "a \" price" && not metadata["sold"]'),
    ],
)
def test_names_of_metadata_need_no_brackets_in_a_filter(where: str, written_out: str) -> None:
    assert expanded(where) == written_out
    assert expanded(written_out) == written_out


def test_filters_and_counts_metadata(collection: Collection, tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2, c=3)
    (tmp_path / "shop.csv").write_text(CSV, encoding="utf-8")
    assert collection.add(tmp_path / "shop.csv").added == 3
    assert found(collection.search("红色", where="price > 10")) == [str(tmp_path / "b.png")]
    assert found(collection.search("红色", where='类别 == "鞋" and price < 10')) == [str(tmp_path / "a.png")]
    facets = {facet.field: facet for facet in collection.facets()}
    assert facets["类别"].values == (("鞋", 2), ("帽子", 1))
    assert (facets["price"].pictures, facets["price"].smallest, facets["price"].largest) == (2, 5.0, 50.5)
    assert facets["new"].smallest is None
    assert [facet.values for facet in collection.facets('类别 == "帽子"') if facet.field == "类别"] == [(("帽子", 1),)]
    with pytest.raises(QueryError, match="invalid filter"):
        collection.facets("price >")


def goods(count: int) -> Iterator[Found]:
    for number in range(count):
        rare = {"rare": 1} if number == count - 1 else {}
        yield Found(f"{number}.png", "1", lambda number=number: picture(number), {"price": number, **rare})  # type: ignore[misc]


def test_counts_of_a_large_collection_are_those_of_a_sample(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The values in a large collection are counted in a random sample, as reading all pictures takes minutes."""
    collection.add(Source("/shop", lambda: goods(30)))
    limits: list[int | None] = []
    query = collection._store._milvus.query

    def counted(*arguments: Any, **options: Any) -> Any:
        limits.append(options.get("limit"))
        return query(*arguments, **options)

    monkeypatch.setattr(collection._store._milvus, "query", counted)
    monkeypatch.setattr(collection._store._milvus, "query_iterator", None)
    [price, *_] = collection.facets(sample=10)
    assert (price.field, price.pictures, price.read, limits) == ("price", 10, 10, [10])
    [price, *_] = collection.facets("price >= 20", sample=10)
    assert (price.read, price.smallest, price.largest) == (10, 20, 29)
    monkeypatch.undo()
    everything = {facet.field: facet for facet in collection.facets(sample=None)}
    assert (everything["price"].read, everything["rare"].pictures) == (30, 1)


def test_an_unknown_name_is_told_from_a_name_that_the_sample_lacks(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.add(Source("/shop", lambda: goods(30)))
    monkeypatch.setattr("tuwen_search.facets.SAMPLE", 3)
    assert collection.search("鞋", where="rare > 5").hits == ()
    with pytest.raises(QueryError, match="no picture has the metadata 'prise'; known names: price"):
        collection.search("鞋", where="prise > 5")
    monkeypatch.setattr(type(collection._store), "count", lambda *_: 1 / 0)
    # the sample contains this name, so the store is not asked about it
    assert collection.search("鞋", where="price > 99").hits == ()


def test_the_command_line_shows_fields_and_a_failed_run_leaves_no_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, a=1, b=2, c=3)
    (tmp_path / "shop.csv").write_text(CSV, encoding="utf-8")
    (tmp_path / "list.txt").write_text(CSV, encoding="utf-8")
    store = str(tmp_path / "s.db")
    with GrpcServer() as server:
        options = ("--into", "shop", "--store", store, "--url", server.url)
        for wrong in ("nowhere", "list.txt"):
            tuwen("index", str(tmp_path / wrong), *options, code=1)
        (tmp_path / "gone.txt").write_text("gone.png\n", encoding="utf-8")
        tuwen("index", str(tmp_path / "gone.txt"), *options, code=1)
        assert json.loads(tuwen("collections", "list", "--store", store, "--json").stdout)["collections"] == []
        assert "3 added" in tuwen("index", str(tmp_path / "shop.csv"), *options).stdout
        (tmp_path / "shop.csv").write_text(CSV.replace("50.5", "60"), encoding="utf-8")
        assert "0 added, 0 changed, 1 with new metadata" in tuwen("index", str(tmp_path / "shop.csv"), *options).stdout
        shown = tuwen("search", "shop", "帽子", "--where", "price == 60", "--store", store, "-u", server.url, "--json")
        assert [hit["metadata"]["price"] for hit in json.loads(shown.stdout)["hits"]] == [60]
    fields = ("collections", "fields", "shop", "--store", store)
    shown = tuwen(*fields)
    assert "鞋 (2), 帽子 (1)" in shown.stdout
    assert "sample" not in shown.stdout + shown.stderr
    monkeypatch.setattr("tuwen_search.facets.SAMPLE", 2)
    assert "a random sample: 2 of 3 pictures. To read all: tuwen collections fields shop --all" in tuwen(*fields).stderr
    told = json.loads(tuwen(*fields, "--all", "--json").stdout)
    assert (told["pictures"], [field["read"] for field in told["fields"]]) == (3, [3] * 4)

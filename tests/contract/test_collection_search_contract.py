"""Searches in collections, and refused searches: with either client, on each kind of store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.collections import Open, found, picture, write
from tuwen import Client, EmbeddingSpaceError, InvalidItemsError
from tuwen.testing import FakeTransport
from tuwen_search import Collection, CollectionNotFoundError, Query, QueryError, StoreError
from tuwen_search.errors import SourceError
from tuwen_search.sources import Found, Source
from tuwen_search.store import MilvusStore


def test_weighs_texts_pictures_and_unwanted_texts(opened: Open, tmp_path: Path) -> None:
    write(tmp_path, **{f"p{number}": number for number in range(20)})
    pictures = opened()
    pictures.add(tmp_path)
    with Client(transport=FakeTransport(embedding_dimension=32)) as clip:
        text, other = clip.embed_texts(["猫", "狗"])
        [image] = clip.embed_images([picture(3)])
    query = Query("猫", image=picture(3), without=["狗"], text_weight=0.25)
    results = pictures.search(query, limit=20)
    wanted = 0.25 * text + 0.75 * image - 0.5 * other
    wanted /= np.linalg.norm(wanted)
    [hit] = [hit for hit in results.hits if hit.picture.name == "p3.png"]
    assert hit.score == pytest.approx(float(wanted @ image), abs=1e-4)
    assert hit.parts["猫"] == pytest.approx(float(text @ image), abs=1e-4)
    assert hit.parts["狗"] == pytest.approx(float(other @ image), abs=1e-4)
    scores = [hit.score for hit in results.hits]
    assert scores == sorted(scores, reverse=True)
    assert results.embedding_seconds > 0
    assert results.store_seconds > 0
    like = pictures.search(Query(like=hit.picture.id), limit=1)
    assert found(like) == ["p3.png"]


def test_pages_join_to_the_whole_result(opened: Open, tmp_path: Path) -> None:
    write(tmp_path, **{f"p{number}": number for number in range(25)})
    pictures = opened()
    pictures.add(tmp_path)
    every = found(pictures.search("猫", limit=25))
    pages = [found(pictures.search("猫", limit=10, offset=offset)) for offset in (0, 10, 20)]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [name for page in pages for name in page] == every
    assert found(pictures.search("猫", limit=10, offset=100)) == []
    assert found(pictures.search("猫", where='name like "p1%"', limit=20)) == [
        name for name in every if name.startswith("p1")
    ]


def test_returns_only_pictures_that_reach_a_score(opened: Open, tmp_path: Path) -> None:
    write(tmp_path, **{f"p{number}": number for number in range(25)})
    pictures = opened()
    pictures.add(tmp_path)
    every = pictures.search("猫", limit=25).hits
    least = (every[9].score + every[10].score) / 2
    first = pictures.search("猫", limit=6, min_score=least)
    rest = pictures.search("猫", limit=6, offset=6, min_score=least)
    assert [*found(first), *found(rest)] == [hit.picture.name for hit in every[:10]]
    assert (first.total, rest.total) == (10, 10)
    nothing = pictures.search("猫", min_score=0.99)
    assert (nothing.hits, nothing.total) == ((), 0)
    assert pictures.search("猫").total is None


def test_names_the_texts_that_were_cut(opened: Open, tmp_path: Path) -> None:
    pictures = opened()
    pictures.add(write(tmp_path, a=1))
    long = "很长的问题" * 20
    assert pictures.search(Query("猫", without=[long])).truncated == (long,)
    assert pictures.search("猫").truncated == ()


def test_counts_the_pictures_of_a_filter(opened: Open, tmp_path: Path) -> None:
    pictures = opened()
    pictures.add(write(tmp_path, **{f"p{number}": number for number in range(12)}))
    assert pictures.count() == 12
    assert pictures.count('name like "p1%"') == 3
    with pytest.raises(QueryError, match="filter 'name is nice'"):
        pictures.count("name is nice")


def test_samples_pictures_at_random(opened: Open, tmp_path: Path) -> None:
    pictures = opened()
    pictures.add(write(tmp_path, **{f"p{number}": number for number in range(100)}))
    samples = [[picture.name for picture, _ in pictures.sample(20, seed=seed)] for seed in range(4)]
    assert samples[0] == [picture.name for picture, _ in pictures.sample(20, seed=0)]
    assert len({frozenset(names) for names in samples}) > 1
    assert all(3 < len(set(names)) == len(names) <= 41 for names in samples)
    everything = pictures.sample(100)
    assert len(everything) == 100
    assert np.linalg.norm(everything[0][1]) == pytest.approx(1, abs=1e-5)


def test_browses_pictures_that_a_filter_selects_page_by_page(opened: Open, tmp_path: Path) -> None:
    table = tmp_path / "goods.jsonl"
    rows = [{"path": f"p{number}.png", "price": number} for number in range(30)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pictures = opened()
    write(tmp_path, **{f"p{number}": number for number in range(30)})
    pictures.add(table)
    pages = [pictures.browse("price < 25", limit=10, offset=offset) for offset in (0, 10, 20)]
    assert [len(page) for page in pages] == [10, 10, 5]
    prices = {picture.metadata["price"] for page in pages for picture in page}
    assert prices == set(range(25))
    assert len(pictures.browse(limit=100)) == 30
    assert sorted(row["price"] for row in pictures.sample_metadata(100)) == list(range(30))
    with pytest.raises(QueryError, match="offset"):
        pictures.browse(limit=10, offset=16_384)
    with pytest.raises(QueryError, match="filter 'price is nice'"):
        pictures.browse("price is nice")


def test_refuses_another_model_by_name(opened: Open, tmp_path: Path) -> None:
    opened().add(write(tmp_path, a=1))
    with pytest.raises(EmbeddingSpaceError, match="'pictures' was made with fake") as raised:
        opened(FakeTransport(embedding_dimension=32, fingerprint="1" * 32))
    assert (raised.value.expected, raised.value.found) == ("0" * 32, "1" * 32)


def test_notices_that_the_server_has_another_model_now(opened: Open, tmp_path: Path) -> None:
    fake = FakeTransport(embedding_dimension=32)
    pictures = opened(fake)
    pictures.add(write(tmp_path, a=1))
    fake.card = FakeTransport(embedding_dimension=32, fingerprint="1" * 32).card
    with pytest.raises(EmbeddingSpaceError):
        pictures.search("猫")
    with pytest.raises(EmbeddingSpaceError):
        pictures.add(write(tmp_path, b=2))
    assert pictures.count() == 1


def test_refuses_invalid_queries(opened: Open, tmp_path: Path) -> None:
    pictures = opened()
    pictures.add(write(tmp_path, a=1))
    for query, options, said in (
        ("", {}, "expected a text, a picture, or both"),
        (" \n", {}, "expected a text"),
        ("猫", {"limit": 0}, "expected limit >= 1"),
        ("猫", {"offset": 16_384}, r"offset \+ limit <= 16,384"),
        ("猫", {"where": "width >"}, "invalid filter 'width >'"),
        ("猫", {"where": "colour == 3"}, "invalid filter 'colour == 3'"),
        (Query(like="f" * 32), {}, "no picture"),
    ):
        with pytest.raises(QueryError, match=said):
            pictures.search(query, **options)
    with pytest.raises(InvalidItemsError):
        pictures.search(Query(image=b"no picture"))
    with pytest.raises(SourceError, match="does not exist"):
        pictures.add(tmp_path / "nowhere")


def test_names_a_collection_that_does_not_exist(opened: Open, store: MilvusStore) -> None:
    with pytest.raises(CollectionNotFoundError, match="'pictures' is not a collection"):
        opened(create=False)
    with Client(transport=FakeTransport()) as clip, pytest.raises(QueryError, match="letters, digits and _"):
        Collection.open("two words", clip, store=store, create=True)
    assert "pictures" not in store.names()


def test_refuses_a_file_with_another_suffix(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"a file that ends in \.db"):
        MilvusStore(str(tmp_path / "collections.sqlite"))


def test_names_a_store_that_does_not_answer() -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(StoreError, match="http://127.0.0.1:1"):
        Collection.open("pictures", clip, store="http://127.0.0.1:1")


def test_keeps_the_types_and_values_of_metadata(opened: Open) -> None:
    told = {"作者": "李", "size": 3.5, "good": True}
    pictures = opened()
    pictures.add(Source("mine", lambda: iter([Found("a", "1", lambda: picture(1), told)])))
    [hit] = pictures.search("猫").hits
    assert json.dumps(dict(hit.picture.metadata), sort_keys=True) == json.dumps(told, sort_keys=True)

"""One behaviour of collections: by either client, on Milvus Lite and on a Milvus server."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.blocking import Blocking
from tests.support.milvus import MilvusServer
from tuwen import AsyncClient, Client, EmbeddingSpaceError, InvalidItemsError
from tuwen.testing import AsyncFakeTransport, FakeTransport
from tuwen_search import AsyncCollection, Collection, CollectionNotFoundError, Query, QueryError, StoreError
from tuwen_search.errors import SourceError
from tuwen_search.sources import Found, Source
from tuwen_search.store import MilvusStore

Open = Callable[..., Any]


@pytest.fixture(scope="module", params=["lite", "server"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("milvus")
    if request.param == "lite":
        yield str(folder / "collections.db")
        return
    with MilvusServer(folder) as server:
        yield server.url


@pytest.fixture(scope="module")
def store(url: str) -> Iterator[MilvusStore]:
    opened = MilvusStore(url)
    yield opened
    opened.close()


@pytest.fixture(params=["sync", "async"])
def opened(request: pytest.FixtureRequest, store: MilvusStore) -> Iterator[Open]:
    """Opens the collection ``pictures``, which is not there before."""
    if store.remote and request.param == "async":
        pytest.skip("the asynchronous one asks the store in the same way, and every collection takes a server seconds")
    if "pictures" in store.names():
        store.drop("pictures")
    with ExitStack() as open_until_the_end:

        def sync(fake: FakeTransport | None = None, **options: Any) -> Collection:
            client = open_until_the_end.enter_context(Client(transport=fake or FakeTransport(embedding_dimension=32)))
            return Collection.open("pictures", client, store=store, **{"create": True, **options})

        def other(fake: FakeTransport | None = None, **options: Any) -> Any:
            client = AsyncClient(transport=AsyncFakeTransport(fake or FakeTransport(embedding_dimension=32)))
            options = {"create": True, **options}
            collection = Blocking(lambda: AsyncCollection.open("pictures", client, store=store, **options))
            return open_until_the_end.enter_context(collection)

        yield sync if request.param == "sync" else other


class Interrupted(Exception):  # noqa: N818 - as Ctrl-C would, which ends an event loop
    pass


def picture(shade: int, side: int = 16) -> bytes:
    output = io.BytesIO()
    Image.new("RGB", (side, 2 * side), (shade, 255 - shade, 40)).save(output, "PNG")
    return output.getvalue()


def write(folder: Path, **shades: int) -> Path:
    for name, shade in shades.items():
        (folder / f"{name}.png").write_bytes(picture(shade))
    return folder


def found(results: Any) -> list[str]:
    return [hit.picture.name for hit in results.hits]


def test_a_folder_is_indexed_and_searched(opened: Open, tmp_path: Path) -> None:
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


def test_again_only_what_is_new_changed_or_gone_is_touched(opened: Open, tmp_path: Path) -> None:
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
    assert pictures.add(tmp_path, keep_missing=True).removed == 0
    assert pictures.count() == 3


def test_a_broken_picture_is_left_out_and_told(opened: Open, tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "secret.jpg").symlink_to(tmp_path / "nowhere.jpg")
    pictures = opened()
    report = pictures.add(tmp_path)
    assert report.added == 2
    assert [(failure.name, failure.reason) for failure in report.failures] == [("broken.png", "unsupported_format")]
    (tmp_path / "b.png").write_bytes(b"broken meanwhile")
    report = pictures.add(tmp_path)
    assert report.removed == 1  # what it showed before is no longer true
    assert found(pictures.search("猫")) == ["a.png"]


def test_what_the_store_cannot_hold_is_left_out_and_told(opened: Open, tmp_path: Path) -> None:
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
        ("a\\udcff", "unfit", "its name is not UTF-8"),
        ("猫" * 7, "unfit", "its name has 4,098 bytes, and at most 4,096 can be kept"),
        ("much", "unfit", "its metadata has 66,015 bytes, and at most 65,536 can be kept"),
    ]
    with pytest.raises(SourceError, match="its source is not UTF-8"):
        collection.add(Source("\udcff", pictures))
    odd = tmp_path / os.fsdecode(b"\xff.png")
    odd.write_bytes(picture(1))
    assert [failure.name for failure in collection.add(tmp_path).failures] == ["\\udcff.png"]


def test_an_interrupted_run_is_gone_on_with(opened: Open) -> None:
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


def test_two_sources_in_one_collection_do_not_touch_each_other(opened: Open, tmp_path: Path) -> None:
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


def test_lists_archives_and_tables(opened: Open, tmp_path: Path) -> None:
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
    assert [(failure.name, failure.reason) for failure in report.failures] == [("missing.png", "unreadable")]
    assert pictures.add(tmp_path / "shard.tar").added == 2
    assert pictures.add(tmp_path / "shard.tar").unchanged == 2
    report = pictures.add(tmp_path / "rows.parquet")
    assert (report.added, [failure.name for failure in report.failures]) == (1, ["none"])
    hits = pictures.search("猫", where='metadata["year"] > 2021').hits
    assert [(hit.picture.name, dict(hit.picture.metadata)) for hit in hits] == [("五", {"id": "五", "year": 2024})]
    assert pictures.count() == 5


def test_texts_pictures_and_what_is_not_wanted_are_weighed(opened: Open, tmp_path: Path) -> None:
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


def test_pages_follow_each_other(opened: Open, tmp_path: Path) -> None:
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


def test_another_model_is_refused_by_name(opened: Open, tmp_path: Path) -> None:
    opened().add(write(tmp_path, a=1))
    with pytest.raises(EmbeddingSpaceError, match="collection pictures was made with fake") as raised:
        opened(FakeTransport(embedding_dimension=32, fingerprint="1" * 32))
    assert (raised.value.expected, raised.value.found) == ("0" * 32, "1" * 32)


def test_a_model_that_changes_in_the_middle_is_noticed(opened: Open, tmp_path: Path) -> None:
    fake = FakeTransport(embedding_dimension=32)
    pictures = opened(fake)
    pictures.add(write(tmp_path, a=1))
    fake.card = FakeTransport(embedding_dimension=32, fingerprint="1" * 32).card
    with pytest.raises(EmbeddingSpaceError):
        pictures.search("猫")
    with pytest.raises(EmbeddingSpaceError):
        pictures.add(write(tmp_path, b=2))
    assert pictures.count() == 1


def test_what_makes_no_sense_is_refused(opened: Open, tmp_path: Path) -> None:
    pictures = opened()
    pictures.add(write(tmp_path, a=1))
    for query, options, said in (
        ("", {}, "give a text, a picture, or both"),
        (" \n", {}, "give a text"),
        ("猫", {"limit": 0}, "a page has at least one picture"),
        ("猫", {"offset": 16_384}, "ends before the 16,384th"),
        ("猫", {"where": "width >"}, "the filter 'width >' cannot be used"),
        ("猫", {"where": "colour == 3"}, "the filter 'colour == 3' cannot be used"),
        (Query(like="f" * 32), {}, "no picture"),
    ):
        with pytest.raises(QueryError, match=said):
            pictures.search(query, **options)
    with pytest.raises(InvalidItemsError):
        pictures.search(Query(image=b"no picture"))
    with pytest.raises(SourceError, match="there is no"):
        pictures.add(tmp_path / "nowhere")


def test_collections_that_are_not_there_or_not_ours(opened: Open, store: MilvusStore) -> None:
    with pytest.raises(CollectionNotFoundError, match="there is no collection pictures"):
        opened(create=False)
    with Client(transport=FakeTransport()) as clip, pytest.raises(QueryError, match="letters, digits and _"):
        Collection.open("two words", clip, store=store, create=True)
    assert "pictures" not in store.names()


def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"a file named \.db"):
        MilvusStore(str(tmp_path / "collections.sqlite"))


def test_a_store_that_does_not_answer() -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(StoreError, match="http://127.0.0.1:1"):
        Collection.open("pictures", clip, store="http://127.0.0.1:1")


def test_metadata_is_kept_as_it_is(opened: Open) -> None:
    told = {"作者": "李", "size": 3.5, "good": True}
    pictures = opened()
    pictures.add(Source("mine", lambda: iter([Found("a", "1", lambda: picture(1), told)])))
    [hit] = pictures.search("猫").hits
    assert json.dumps(dict(hit.picture.metadata), sort_keys=True) == json.dumps(told, sort_keys=True)

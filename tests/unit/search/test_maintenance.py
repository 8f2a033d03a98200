"""The sources of a collection are listed, moved without embedding, and forgotten, by functions and by commands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.support.collections import write
from tests.support.command import tuwen
from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_search import Collection, CollectionNotFoundError
from tuwen_search.entries import held
from tuwen_search.errors import SourceError
from tuwen_search.maintenance import KeptSource, Moved, forget_source, move_sources, sources_of
from tuwen_search.records import picture_id
from tuwen_search.sources import Source
from tuwen_search.store import MilvusStore

NAME = "pictures"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a folder with two sources: a folder of two pictures, and a list of one picture."""
    photos = tmp_path / "disk" / "photos"
    photos.mkdir(parents=True)
    write(photos, a=1, b=2)
    (tmp_path / "disk" / "list.txt").write_text("photos/a.png\n", encoding="utf-8")
    return tmp_path / "disk"


class TestSources:
    def test_sources_are_listed_with_picture_counts_and_states(
        self, collection: Collection, store: MilvusStore, disk: Path
    ) -> None:
        collection.add(disk / "photos")
        collection.add(disk / "list.txt")
        collection.add(Source("shop", lambda: iter([held("x", (disk / "photos" / "a.png").read_bytes(), {})])))
        (disk / "list.txt").unlink()
        assert sources_of(store, NAME) == [
            KeptSource(str(disk / "list.txt"), 1, "gone"),
            KeptSource(str(disk / "photos"), 2, "there"),
            KeptSource("shop", 1, "no path"),
        ]
        for path in (disk / "photos").iterdir():
            path.unlink()
        assert sources_of(store, NAME)[1].state == "empty"

    def test_pictures_of_sources_are_counted_by_the_store(
        self, collection: Collection, store: MilvusStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The pictures of a source are counted without reading all rows.

        Reading all rows of a large collection takes minutes.
        """
        for source, count in (("a", 7), ("b", 3), ("c", 1)):
            data = write(tmp_path, **{source: count}) / f"{source}.png"
            found = [held(f"{number}.png", data.read_bytes(), {}) for number in range(count)]
            collection.add(Source(source, lambda found=found: iter(found)))  # type: ignore[misc]
        monkeypatch.setattr("tuwen_search.picture_rows.ROWS_AT_ONCE", 2)
        monkeypatch.setattr(store._milvus, "query_iterator", None)
        assert store.sources(NAME) == {"a": 7, "b": 3, "c": 1}
        assert [kept.pictures for kept in sources_of(store, NAME)] == [7, 3, 1]

    def test_a_path_without_permission_counts_as_there(
        self, collection: Collection, store: MilvusStore, disk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collection.add(disk / "photos")

        def refuse(path: object) -> None:
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr(os, "scandir", refuse)
        assert [source.state for source in sources_of(store, NAME)] == ["there"]
        monkeypatch.undo()
        (disk / "photos").rename(disk / "elsewhere")
        (disk / "photos").touch()
        assert [source.state for source in sources_of(store, NAME)] == ["there"]
        (disk / "photos").unlink()
        assert [source.state for source in sources_of(store, NAME)] == ["gone"]

    def test_a_missing_collection_is_named(self, store: MilvusStore) -> None:
        with pytest.raises(CollectionNotFoundError, match="nothing_here"):
            sources_of(store, "nothing_here")


class TestMove:
    def test_a_renamed_disk_is_moved_without_embedding(
        self, collection: Collection, store: MilvusStore, disk: Path
    ) -> None:
        collection.add(disk / "photos")
        collection.add(disk / "list.txt")
        old = {path: picture_id(str(disk / "photos"), path) for path in ("a.png", "b.png")}
        before = store.get(NAME, list(old.values()))
        new = disk.rename(disk.with_name("new"))
        moved = move_sources(store, NAME, str(disk), str(new))
        assert moved == Moved((str(disk / "list.txt"), str(disk / "photos")), 3, 0)
        for name, key in old.items():
            picture, vector = store.get(NAME, [picture_id(str(new / "photos"), name)])[
                picture_id(str(new / "photos"), name)
            ]
            assert np.array_equal(vector, before[key][1])
            assert picture.thumbnail == before[key][0].thumbnail
        for source, count in ((new / "photos", 2), (new / "list.txt", 1)):
            report = collection.add(source)
            assert (report.unchanged, report.added, report.removed, report.failures) == (count, 0, 0, [])

    def test_an_interrupted_move_is_finished_by_the_next(
        self, collection: Collection, store: MilvusStore, disk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        collection.add(disk / "photos")
        new = disk.rename(disk.with_name("new"))

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(store, "remove", interrupt)
            with pytest.raises(KeyboardInterrupt):
                move_sources(store, NAME, str(disk), str(new))
        assert move_sources(store, NAME, str(disk), str(new)) == Moved((str(disk / "photos"),), 0, 2)
        assert sources_of(store, NAME) == [KeptSource(str(new / "photos"), 2, "there")]

    def test_a_move_leaves_folders_whose_names_only_begin_alike(
        self, collection: Collection, store: MilvusStore, tmp_path: Path
    ) -> None:
        for name in ("a", "ab"):
            (tmp_path / name).mkdir()
            collection.add(write(tmp_path / name, x=1))
        new = (tmp_path / "a").rename(tmp_path / "c")
        move_sources(store, NAME, str(tmp_path / "a"), str(new))
        assert [source.name for source in sources_of(store, NAME)] == [str(tmp_path / "ab"), str(new)]

    def test_a_move_into_a_subfolder_is_made_once(self, collection: Collection, store: MilvusStore, disk: Path) -> None:
        collection.add(disk / "photos")
        (disk / "year" / "photos").mkdir(parents=True)
        for _ in range(2):
            move_sources(store, NAME, str(disk), str(disk / "year"))
        assert [source.name for source in sources_of(store, NAME)] == [str(disk / "year" / "photos")]

    def test_a_move_to_a_missing_or_unchanged_path_is_refused(
        self, collection: Collection, store: MilvusStore, disk: Path
    ) -> None:
        collection.add(disk / "photos")
        with pytest.raises(SourceError, match="does not exist; move"):
            move_sources(store, NAME, str(disk), str(disk.with_name("missing")))
        with pytest.raises(SourceError, match="has no source"):
            move_sources(store, NAME, "/elsewhere", str(disk))
        with pytest.raises(SourceError, match="both are the same path"):
            move_sources(store, NAME, str(disk), f"{disk}/photos/..")
        assert collection.count() == 2


class TestForget:
    def test_only_the_named_source_is_removed(self, collection: Collection, store: MilvusStore, disk: Path) -> None:
        collection.add(disk / "photos")
        collection.add(disk / "list.txt")
        assert forget_source(store, NAME, f"{disk}/../{disk.name}/photos/") == 2
        assert [source.name for source in sources_of(store, NAME)] == [str(disk / "list.txt")]
        assert (disk / "photos" / "a.png").exists()

    def test_an_unknown_source_is_refused_with_the_known_ones(
        self, collection: Collection, store: MilvusStore, disk: Path
    ) -> None:
        collection.add(disk / "photos")
        with pytest.raises(SourceError, match=f"has no source '/x'; its sources are: '{disk / 'photos'}'"):
            forget_source(store, NAME, "/x")


def test_the_command_lists_shows_moves_forgets_and_drops(tmp_path: Path, disk: Path) -> None:
    where = ("--store", str(tmp_path / "c.db"))
    assert "holds no collections" in tuwen("collections", "list", *where).stdout
    with (
        Client(transport=FakeTransport(embedding_dimension=16)) as client,
        Collection.open("shop", client, store=where[1], create=True) as pictures,
    ):
        pictures.add(disk / "photos")
    assert "shop" in tuwen("collections", "list", *where).stdout
    new = disk.rename(disk.with_name("new"))
    shown = tuwen("collections", "show", "shop", *where)
    assert "gone" in shown.stdout
    assert "collections move shop" in shown.stderr
    moved = tuwen("collections", "move", "shop", "--from", str(disk), "--to", str(new), *where, "--json")
    assert json.loads(moved.stdout)["moved"] == 2
    [source] = json.loads(tuwen("collections", "show", "shop", *where, "--json").stdout)["sources"]
    assert source == {"name": str(new / "photos"), "pictures": 2, "state": "there"}
    assert "2 pictures removed" in tuwen("collections", "forget", "shop", str(new / "photos"), *where).stdout
    assert "has no source" in tuwen("collections", "forget", "shop", "x", *where, code=1).stderr
    tuwen("collections", "drop", "shop", "--yes", *where)
    assert "'shop' is not a collection" in tuwen("collections", "drop", "shop", "--yes", *where, code=1).stderr

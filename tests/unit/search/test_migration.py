"""A migration embeds a collection with another model. It can be resumed, checks new vectors, and keeps old vectors."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.collections import found, picture, write
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen import Client, EmbeddingSpaceError, ServerUnavailableError
from tuwen.testing import FakeTransport
from tuwen_search import Collection, CollectionNotFoundError, Query, QueryError
from tuwen_search.entries import held
from tuwen_search.errors import MigrationError, SourceError
from tuwen_search.generations import (
    chosen_generations,
    copy_collection,
    current_generation,
    drop_generations,
    generations_of,
    rename_collection,
)
from tuwen_search.maintenance import forget_source, move_sources, sources_of
from tuwen_search.migration import migrate
from tuwen_search.near_duplicates import near_duplicates
from tuwen_search.sources import Source
from tuwen_search.store import MilvusStore

NAME = "pictures"
OLD, NEW = "a" * 32, "b" * 32


def fake(fingerprint: str = NEW, **settings: Any) -> FakeTransport:
    """Return a fake server with a model of the given fingerprint. Vectors of two models differ in their dimension."""
    dimension = {OLD: 16, NEW: 24}.get(fingerprint, 20)
    return FakeTransport(embedding_dimension=dimension, fingerprint=fingerprint, **settings)


@pytest.fixture
def clients() -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda transport: stack.enter_context(Client(transport=transport))


@pytest.fixture
def old(store: MilvusStore, clients: Any) -> Collection:
    """Return an empty collection of pictures that embeds with the old model."""
    for place in store.places():
        store.drop(place)
    return Collection.open(NAME, clients(fake(OLD)), store=store, create=True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a folder with four sources.

    A subfolder holds two pictures. A list, a table and an archive hold one picture each.
    """
    folder = tmp_path / "disk"
    (folder / "photos").mkdir(parents=True)
    write(folder / "photos", a=1, b=2)
    write(folder, c=3, d=4, e=5)
    (folder / "list.txt").write_text("c.png\n", encoding="utf-8")
    (folder / "table.csv").write_text("path,label,price\nd.png,猫,12\n", encoding="utf-8")
    with tarfile.open(folder / "shard.tar", "w") as archive:
        archive.add(folder / "e.png", arcname="e.png")
        (folder / "e.txt").write_text("一只猫", encoding="utf-8")
        archive.add(folder / "e.txt", arcname="e.txt")
    (folder / "e.png").unlink()
    return folder


def add_all(collection: Collection, disk: Path) -> None:
    for name in ("photos", "list.txt", "table.csv", "shard.tar"):
        collection.add(disk / name)


def rows(store: MilvusStore, fingerprint: str) -> dict[str, dict[str, Any]]:
    """Return the rows of the vectors with this fingerprint, by ID. The rows contain all fields but the vector."""
    [generation] = chosen_generations(store, NAME, fingerprint)
    fields = ["source", "name", "version", "sha256", "metadata", "width", "height", "thumbnail", "file_size"]
    return {row["id"]: row for row in store.every(generation.place, fields)}


class TestMigrate:
    def test_keeps_every_record_and_embeds_every_kind_of_source(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        (disk / "list.txt").unlink()  # the picture of the list is a separate file
        server = fake()
        report = migrate(store, NAME, clients(server))
        assert (report.pictures, report.embedded, report.failures, report.switched) == (5, 5, [], True)
        assert (report.checked, report.old.fingerprint, report.new.fingerprint) == (5, OLD, NEW)
        assert report.least_cosine == pytest.approx(1, abs=1e-5)
        assert rows(store, NEW) == rows(store, OLD)
        metadata = [row["metadata"] for row in rows(store, NEW).values()]
        assert {"label": "猫", "price": 12} in metadata
        assert {"caption": "一只猫"} in metadata
        with Collection.open(NAME, clients(server), store=store) as pictures:
            [best] = pictures.search(Query(image=disk / "d.png"), limit=1).hits
            assert (best.picture.name, round(best.score, 4)) == (str(disk / "d.png"), 1.0)

    def test_both_models_find_their_vectors_until_the_old_ones_are_dropped(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        new = clients(fake())
        with pytest.raises(EmbeddingSpaceError):
            Collection.open(NAME, new, store=store)
        migrate(store, NAME, new)
        again = Collection.open(NAME, old._client, store=store)
        for opened in (old, again, Collection.open(NAME, new, store=store)):
            assert len(found(opened.search("猫"))) == 5
        assert store.names() == [NAME]
        drop_generations(store, chosen_generations(store, NAME, OLD))
        assert len(found(Collection.open(NAME, new, store=store).search("猫"))) == 5
        with pytest.raises(EmbeddingSpaceError):
            Collection.open(NAME, old._client, store=store)

    def test_every_operation_uses_the_new_vectors_when_the_old_ones_are_gone(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        migrate(store, NAME, clients(fake()))
        drop_generations(store, chosen_generations(store, NAME, OLD))
        new = Collection.open(NAME, clients(fake()), store=store)
        calls: dict[str, Any] = {
            "add": lambda: new.add(disk / "photos").unchanged == 2,
            "browse": lambda: len(new.browse()) == 5,
            "count": lambda: new.count() == 5,
            "duplicates": lambda: new.duplicates() == [],
            "facets": lambda: {facet.field for facet in new.facets()} == {"caption", "label", "price"},
            "get": lambda: new.get(new.browse()[0].id) == new.browse()[0],
            "sample": lambda: len(new.sample(10)) == 5,
            "sample_metadata": lambda: len(new.sample_metadata(10)) == 5,
            "search": lambda: len(found(new.search("猫"))) == 5,
        }
        public = {name for name in vars(Collection) if not name.startswith("_")}
        assert calls.keys() == public - {"open", "close"}
        assert {name for name, call in calls.items() if not call()} == set()

    def test_a_model_that_was_replaced_takes_no_pictures(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        migrate(store, NAME, clients(fake()))
        with pytest.raises(EmbeddingSpaceError, match="was migrated to"):
            old.add(disk / "photos")
        assert Collection.open(NAME, clients(fake()), store=store).add(disk / "photos").unchanged == 2

    def test_an_interrupted_migration_embeds_no_picture_twice(
        self, old: Collection, store: MilvusStore, clients: Any
    ) -> None:
        data = {f"{number:03}": picture(number % 256, 8 + number // 256) for number in range(600)}
        folder = Path(store.url).parent / "many"
        folder.mkdir()
        for name, one in data.items():
            (folder / f"{name}.png").write_bytes(one)
        old.add(folder)
        gone = ServerUnavailableError("the server is gone", code="UNAVAILABLE")

        class Dying(FakeTransport):
            def send(self, request: Any, timeout: float) -> Any:
                if sum(len(one.items) for one in self.requests) > 400:
                    raise gone
                return super().send(request, timeout)

        with (
            pytest.raises(ServerUnavailableError),
            Client(transport=Dying(embedding_dimension=24, fingerprint=NEW), timeout=1.0) as dying,
        ):
            migrate(store, NAME, dying)
        assert [one.complete for one in generations_of(store, NAME)] == [False, True]
        assert current_generation(store, NAME).space.fingerprint == OLD
        with pytest.raises(EmbeddingSpaceError, match="is not finished"):
            Collection.open(NAME, clients(fake()), store=store)
        server = fake()
        report = migrate(store, NAME, clients(server))
        assert (report.pictures, report.switched) == (600, True)
        assert 100 < report.embedded < 600 - 256
        sent = sum(len(request.items) for request in server.requests)
        assert sent == report.embedded + report.checked

    def test_changes_during_a_migration_are_applied_before_the_switch(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A migration includes pictures that are added, changed, labelled again or removed between two passes.

        One more picture is added just before the switch.
        """
        add_all(old, disk)
        rename = store.rename

        class Busy(FakeTransport):
            def send(self, request: Any, timeout: float) -> Any:
                if not self.requests:
                    write(disk / "photos", b=77, f=78)
                    os.utime(disk / "photos" / "b.png", ns=(1, 1))
                    (disk / "photos" / "a.png").unlink()
                    (disk / "table.csv").write_text("path,label,price\nd.png,狗,13\n", encoding="utf-8")
                    old.add(disk / "photos")
                    old.add(disk / "table.csv")
                return super().send(request, timeout)

        def late(place: str, new: str) -> None:
            write(disk / "photos", g=99)
            old.add(disk / "photos")
            rename(place, new)

        monkeypatch.setattr(store, "rename", late)
        report = migrate(store, NAME, clients(Busy(embedding_dimension=24, fingerprint=NEW)))
        assert (report.pictures, report.failures, report.switched) == (6, [], True)
        assert rows(store, NEW) == rows(store, OLD)
        assert {"label": "狗", "price": 13} in [row["metadata"] for row in rows(store, NEW).values()]
        place = current_generation(store, NAME).place
        vectors = {row["name"]: np.asarray(row["vector"]) for row in store.every(place, ["name", "vector"])}
        embedded = clients(fake()).embed_images([disk / "photos" / "b.png"])[0]
        assert float(vectors["b.png"] @ embedded) == pytest.approx(1, abs=1e-5)

    def test_a_changed_file_is_embedded_with_its_present_bytes(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        write(disk, d=200)
        report = migrate(store, NAME, clients(fake()))
        assert (report.changed, report.switched, report.pictures) == (1, True, 5)
        [row] = [row for row in rows(store, NEW).values() if row["name"] == str(disk / "d.png")]
        assert row["metadata"] == {"label": "猫", "price": 12}
        with Collection.open(NAME, clients(fake()), store=store) as pictures:
            assert pictures.add(disk / "table.csv").unchanged == 1


class TestLostPictures:
    def test_a_lost_picture_stops_the_switch_until_it_is_left_out(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        old.add(Source("shop", lambda: iter([held("x", picture(9), {})])))
        (disk / "photos" / "a.png").unlink()
        (disk / "shard.tar").unlink()
        new = clients(fake())
        report = migrate(store, NAME, new)
        assert (report.pictures, report.switched) == (3, False)
        assert {(failure.name.rpartition("/")[2], failure.reason) for failure in report.failures} == {
            ("a.png", "lost"),
            ("e.png", "lost"),
            ("x", "lost"),
        }
        with pytest.raises(EmbeddingSpaceError):
            Collection.open(NAME, new, store=store)
        write(disk / "photos", a=1)
        report = migrate(store, NAME, new, drop_missing=True)
        assert (report.embedded, report.pictures, report.switched, len(report.failures)) == (1, 4, True, 2)
        assert len(found(old.search("猫"))) == 6

    def test_a_picture_that_the_new_server_refuses_is_a_failure(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        (disk / "d.png").write_bytes(b"broken meanwhile")
        report = migrate(store, NAME, clients(fake()))
        assert [failure.reason for failure in report.failures] == ["unsupported_format"]
        assert not report.switched


class TestRefusals:
    def test_a_server_whose_vectors_differ_each_time_is_not_switched_to(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        class Broken(FakeTransport):
            def send(self, request: Any, timeout: float) -> Any:
                salt = str(len(self.requests)).encode()
                return super().send(replace(request, items=tuple(item + salt for item in request.items)), timeout)

        add_all(old, disk)
        with pytest.raises(MigrationError, match="the cosine of its vectors"):
            migrate(store, NAME, clients(Broken(embedding_dimension=24, fingerprint=NEW)))
        assert current_generation(store, NAME).space.fingerprint == OLD

    def test_the_same_model_again_is_refused(self, old: Collection, store: MilvusStore, disk: Path) -> None:
        add_all(old, disk)
        with pytest.raises(MigrationError, match="expected a server with another model than .* already has"):
            migrate(store, NAME, old._client)

    def test_dropping_the_newer_vectors_goes_back_to_the_old_model(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        migrate(store, NAME, clients(fake()))
        with pytest.raises(MigrationError, match=f"--space {NEW}"):
            migrate(store, NAME, old._client)
        drop_generations(store, chosen_generations(store, NAME, NEW))
        assert old.add(disk / "photos").unchanged == 2

    def test_a_finished_migration_adds_pictures_that_arrived_later(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        new = clients(fake())
        migrate(store, NAME, new)
        place = current_generation(store, NAME).place
        store.remove(place, [next(iter(rows(store, NEW)))])
        report = migrate(store, NAME, new)
        assert (report.embedded, report.pictures, report.switched) == (1, 5, True)

    def test_an_unfinished_migration_to_a_third_model_begins_anew(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        (disk / "photos" / "a.png").unlink()
        third = clients(fake("c" * 32))
        assert not migrate(store, NAME, third).switched
        migrate(store, NAME, clients(fake()), drop_missing=True)
        report = migrate(store, NAME, third, drop_missing=True)
        assert (report.embedded, report.switched, report.new.generation) == (4, True, 3)


class TestGenerations:
    def test_all_generations_are_renamed_copied_moved_and_forgotten_together(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        migrate(store, NAME, clients(fake()))
        rename_collection(store, NAME, "albums")
        assert store.names() == ["albums"]
        assert len(generations_of(store, "albums")) == 2
        assert copy_collection(store, "albums", "backup") == 5
        assert current_generation(store, "backup").space.fingerprint == NEW
        for taken in (rename_collection, copy_collection):
            with pytest.raises(QueryError, match="already"):
                taken(store, "albums", "backup")
        (disk / "photos").rename(disk / "elsewhere")
        assert move_sources(store, "albums", str(disk / "photos"), str(disk / "elsewhere")).moved == 2
        for unknown in (
            lambda: move_sources(store, "albums", "/gone", str(disk)),
            lambda: forget_source(store, "albums", "/gone"),
        ):
            with pytest.raises(SourceError, match="'albums' has no source"):
                unknown()
        assert forget_source(store, "albums", str(disk / "elsewhere")) == 2
        for generation in generations_of(store, "albums"):
            assert store.count(generation.place) == 3
        assert {source.state for source in sources_of(store, "albums")} == {"there"}
        assert near_duplicates(store, "albums") == []
        drop_generations(store, chosen_generations(store, "albums"))
        assert store.names() == ["backup"]

    def test_an_unknown_space_is_refused_and_dropping_the_last_space_leaves_nothing(
        self, old: Collection, store: MilvusStore, clients: Any, disk: Path
    ) -> None:
        add_all(old, disk)
        (disk / "photos" / "a.png").unlink()
        assert not migrate(store, NAME, clients(fake())).switched
        with pytest.raises(QueryError, match="got 'c', which matches 0 spaces"):
            chosen_generations(store, NAME, "c")
        drop_generations(store, chosen_generations(store, NAME, OLD))
        assert store.places() == []
        with pytest.raises(CollectionNotFoundError):
            generations_of(store, NAME)


def test_the_command_migrates_and_says_how_to_remove_the_old_vectors(tmp_path: Path) -> None:
    write(tmp_path, a=1, b=2)
    path = str(tmp_path / "s.db")
    with GrpcServer() as before, GrpcServer() as after:
        after.fake = fake()
        tuwen("index", str(tmp_path), "--into", "shop", "--store", path, "--url", before.url)
        (tmp_path / "b.png").rename(tmp_path / "c.png")
        stopped = tuwen("migrate", "shop", "--to", after.url, "--store", path, code=1)
        assert "not switched: 1 pictures cannot be embedded again" in stopped.stderr
        assert "b.png: No such file or directory (lost)" in stopped.stderr
        shown = tuwen("collections", "show", "shop", "--store", path, "--json").stdout
        assert [space["state"] for space in json.loads(shown)["spaces"]] == ["unfinished", "current"]
        (tmp_path / "c.png").rename(tmp_path / "b.png")
        done = tuwen("migrate", "shop", "--to", after.url, "--store", path)
        assert "shop: 2 pictures with fake: 1 embedded, 1 in earlier runs" in done.stdout
        assert f"tuwen collections drop shop --space {'0' * 32}" in done.stdout
        for server in (before, after):
            assert "a.png" in tuwen("search", "shop", "猫", "--store", path, "--url", server.url).stdout
        refused = tuwen("index", str(tmp_path), "--into", "shop", "--store", path, "--url", before.url, code=1)
        assert "'shop' was migrated to fake" in refused.stderr
        tuwen("collections", "drop", "shop", "--space", "0" * 32, "--yes", "--store", path)
        shown = tuwen("collections", "show", "shop", "--store", path).stdout
        assert f"fingerprint {NEW}" in shown
        assert "kept" not in shown
        told = json.loads(tuwen("collections", "list", "--store", path, "--json").stdout)["collections"]
        assert told == [{"collection": "shop", "pictures": 2, "checkpoint": "fake"}]

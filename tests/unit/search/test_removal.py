"""Pictures that could not be examined stay in the collection; only pictures that are gone are removed."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tests.unit.search.test_sources import archive, forbid, members, picture
from tuwen_search import Collection, Report
from tuwen_search.entries import Found, held
from tuwen_search.sources import Source, open_source


def photos(root: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(shade))
    return root


def failed(report: Report) -> list[tuple[str, str]]:
    return [(failure.name, failure.reason) for failure in report.failures]


class TestUnseen:
    def test_a_subfolder_that_cannot_be_listed_keeps_its_pictures(
        self, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        photos(tmp_path, "a.png", "b.png", "sub/1.png", "sub/2.png")
        collection.add(tmp_path)
        (tmp_path / "b.png").unlink()
        with monkeypatch.context() as patched:
            forbid(patched, tmp_path / "sub")
            report = collection.add(tmp_path)
        assert (report.unchanged, report.removed) == (1, 1)
        assert failed(report) == [("sub", "unreadable")]
        assert collection.count() == 3
        assert collection.add(tmp_path).failures == []

    def test_a_link_that_leads_nowhere_keeps_its_picture(self, collection: Collection, tmp_path: Path) -> None:
        disk = photos(tmp_path / "disk", "a.png")
        folder = photos(tmp_path / "folder", "b.png")
        (folder / "a.png").symlink_to(disk / "a.png")
        assert collection.add(folder).added == 2
        disk.rename(tmp_path / "not mounted")
        report = collection.add(folder)
        assert (report.removed, failed(report)) == (0, [("a.png", "unreadable")])

    def test_a_listed_picture_that_is_missing_stays(self, collection: Collection, tmp_path: Path) -> None:
        photos(tmp_path, "a.png", "b.png")
        (tmp_path / "list.txt").write_text("a.png\nb.png\n", encoding="utf-8")
        collection.add(tmp_path / "list.txt")
        (tmp_path / "b.png").unlink()
        report = collection.add(tmp_path / "list.txt")
        assert (report.removed, failed(report)) == (0, [(str(tmp_path / "b.png"), "unreadable")])
        (tmp_path / "list.txt").write_text("a.png\n", encoding="utf-8")
        assert collection.add(tmp_path / "list.txt").removed == 1

    @pytest.mark.parametrize("boundary", [True, False])
    def test_a_damaged_archive_keeps_the_pictures_behind_the_damage(
        self, collection: Collection, tmp_path: Path, boundary: bool
    ) -> None:
        path = tmp_path / "a.tar"
        path.write_bytes(archive())
        assert collection.add(path).added == 5
        path.write_bytes(archive()[: members()[2].offset if boundary else members()[2].offset_data + 20])
        report = collection.add(path)
        assert (report.unchanged, report.removed) == (2, 0)
        assert failed(report) == [("a.tar", "damaged")]
        assert collection.count() == 5

    def test_pictures_before_the_damage_are_added(self, collection: Collection, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(archive()[: members()[3].offset_data + 10])
        assert collection.add(tmp_path / "a.tar").added == 3 == collection.count()

    def test_a_row_that_lost_its_bytes_is_removed(self, collection: Collection) -> None:
        """A picture whose source row no longer has image bytes is removed from the collection."""
        for value, removed in ((picture(1), 0), (None, 1)):
            source = Source("mine", lambda value=value: iter([held("a", value, {}), held("b", picture(2), {})]))
            assert collection.add(source).removed == removed


class TestEmptied:
    def test_a_folder_that_became_empty_removes_nothing_unless_confirmed(
        self, collection: Collection, tmp_path: Path
    ) -> None:
        library = photos(tmp_path / "library", "a.png", "sub/b.png")
        collection.add(library)
        library.rename(tmp_path / "disk")
        library.mkdir()
        report = collection.add(library)
        assert (report.removed, failed(report)) == (0, [(str(library), "emptied")])
        assert "2" in report.failures[0].message
        assert "--confirm-removal" in report.failures[0].message
        assert collection.add(library, keep_removed=True).failures == []
        assert collection.count() == 2
        report = collection.add(library, confirm_removal=True)
        assert (report.removed, report.failures) == (2, [])

    def test_an_emptied_archive_removes_nothing_unless_confirmed(self, collection: Collection, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(archive())
        collection.add(tmp_path / "a.tar")
        with tarfile.open(tmp_path / "a.tar", "w"):
            pass
        assert failed(collection.add(tmp_path / "a.tar")) == [(str(tmp_path / "a.tar"), "emptied")]

    def test_a_source_that_never_had_pictures_is_not_a_failure(self, collection: Collection, tmp_path: Path) -> None:
        assert collection.add(tmp_path).failures == []


class TestOneSource:
    def test_another_path_of_the_folder_changes_nothing(
        self, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = photos(tmp_path / "photos", "a.png", "b.png")
        (tmp_path / "link").symlink_to(folder)
        monkeypatch.chdir(folder)
        assert collection.add("../photos/").added == 2
        for path in (folder, tmp_path / "link", Path(".")):
            report = collection.add(path)
            assert (report.source, report.added, report.unchanged) == (str(folder), 0, 2)
        assert collection.count() == 2

    def old(self, collection: Collection, folder: Path, name: str) -> None:
        """Index a folder under a path that is not resolved, such as a link."""
        entries = [entry for entry in open_source(folder).pictures() if isinstance(entry, Found)]
        collection.add(Source(name, lambda: iter(entries)))

    def test_a_collection_keeps_an_unresolved_path(self, collection: Collection, tmp_path: Path) -> None:
        folder = photos(tmp_path / "photos", "a.png", "b.png")
        (tmp_path / "link").symlink_to(folder)
        self.old(collection, folder, str(tmp_path / "link"))
        report = collection.add(folder)
        assert (report.source, report.added, report.unchanged) == (str(tmp_path / "link"), 0, 2)

    def test_pictures_under_a_second_path_of_the_source_are_removed(
        self, collection: Collection, tmp_path: Path
    ) -> None:
        folder = photos(tmp_path / "photos", "a.png", "b.png")
        other = photos(tmp_path / "other", "c.png")
        self.old(collection, folder, f"{folder}/../photos")
        collection.add(other)
        collection.add(folder)
        self.old(collection, folder, f"{folder}/./.")
        assert collection.count() == 5
        report = collection.add(folder)
        assert (report.added, report.removed) == (0, 2)
        assert collection.count() == 3
        assert collection.duplicates() == [[os.fspath(other / "c.png"), str(Path(report.source, "a.png"))]]


def test_a_search_shows_the_own_path_of_a_listed_picture(collection: Collection, tmp_path: Path) -> None:
    photos(tmp_path, "a.png")
    (tmp_path / "list.txt").write_text("a.png\n", encoding="utf-8")
    collection.add(tmp_path / "list.txt")
    [hit] = collection.search("猫").hits
    assert Path(hit.picture.source, hit.picture.name) == tmp_path / "a.png"

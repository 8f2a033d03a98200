"""If sources are unreadable, missing, damaged or moved, a collection keeps their vectors and reports each fault.

`pytest tests/system/test_lost_sources.py --pictures 2000` uses 2,000 pictures.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit.search.test_sources import forbid
from tuwen import Client
from tuwen.testing import FakeTransport
from tuwen_search import Collection, Report
from tuwen_search.errors import SourceError
from tuwen_search.maintenance import move_sources

Vectors = list[tuple[float, ...]]


@dataclass
class Library:
    """Three sources of pictures, and the collection that holds them.

    Attributes:
        folder: a folder with half of the pictures, in the subfolders ``family`` and ``trips``.
        disk: a folder with a quarter of the pictures, which stands for a disk that can be unmounted.
        archive: a tar file with a quarter of the pictures.
        collection: the collection of all pictures.
        fake: the fake transport, which records every request.
    """

    folder: Path
    disk: Path
    archive: Path
    collection: Collection
    fake: FakeTransport

    def vectors(self) -> Vectors:
        """Return the vectors of the collection, sorted."""
        return sorted(tuple(row["vector"]) for row in self.collection._store.every("pictures", ["vector"]))

    def add_all(self) -> list[Report]:
        return [self.collection.add(source) for source in (self.folder, self.disk, self.archive)]


def encoded(numbers: np.random.Generator) -> bytes:
    """Return a PNG file with random colours."""
    file = io.BytesIO()
    Image.fromarray(numbers.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Library]:
    numbers, quarter = np.random.default_rng(0), request.config.getoption("--pictures") // 4
    folder, disk, archive = tmp_path / "library", tmp_path / "disk", tmp_path / "pictures.tar"
    for part in (folder / "family", folder / "trips", disk):
        part.mkdir(parents=True)
        for number in range(quarter):
            (part / f"{number}.png").write_bytes(encoded(numbers))
    with tarfile.open(archive, "w") as file:
        for number in range(quarter):
            data = encoded(numbers)
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    fake, store = FakeTransport(embedding_dimension=16), str(tmp_path / "search.db")
    with (
        Client(transport=fake) as clip,
        Collection.open("pictures", clip, store=store, create=True) as collection,
    ):
        made = Library(folder, disk, archive, collection, fake)
        assert [report.added for report in made.add_all()] == [2 * quarter, quarter, quarter]
        yield made


def failed(reports: list[Report]) -> list[list[tuple[str, str]]]:
    return [[(failure.name, failure.reason) for failure in report.failures] for report in reports]


def test_no_vector_is_lost_and_every_fault_is_reported(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    before, sent = library.vectors(), len(library.fake.requests)
    count = len(before)
    assert len(set(before)) == count

    def unchanged(faults: list[list[tuple[str, str]]]) -> list[Any]:
        reports = library.add_all()
        assert failed(reports) == faults
        assert [report.removed for report in reports] == [0, 0, 0]
        assert library.vectors() == before
        return reports

    with monkeypatch.context() as patched:
        forbid(patched, library.folder / "trips")
        unchanged([[("trips", "unreadable")], [], []])

    mounted = library.disk.rename(library.disk.with_name("elsewhere"))
    library.disk.mkdir()  # an empty mount point
    [_, disk, _] = unchanged([[], [(str(library.disk), "emptied")], []])
    assert "--confirm-removal" in disk.failures[0].message
    library.disk.rmdir()
    mounted.rename(library.disk)

    whole = library.archive.read_bytes()
    library.archive.write_bytes(whole[: len(whole) // 2])
    unchanged([[], [], [("pictures.tar", "damaged")]])
    library.archive.write_bytes(whole)

    renamed = library.folder.rename(library.folder.with_name("albums"))
    with pytest.raises(SourceError, match="library"):
        library.collection.add(library.folder)
    assert library.vectors() == before
    moved = move_sources(library.collection._store, "pictures", str(library.folder), str(renamed))
    assert (moved.moved, moved.known) == (count // 2, 0)
    library.folder = renamed
    reports = unchanged([[], [], []])
    assert [report.unchanged for report in reports] == [count // 2, count // 4, count // 4]
    assert len(library.fake.requests) == sent  # no picture was embedded again

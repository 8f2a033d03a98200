"""When `tuwen embed` runs again, it embeds new and changed images, keeps unchanged ones, and removes missing ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.collections import picture, write
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen import Client
from tuwen_files import EmbeddingTable

pytest.importorskip("grpc")
COUNTS = ("added", "changed", "unchanged", "removed", "failed")


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as opened:
        yield opened


class Embedding:
    """A folder of images and an output file, for repeated runs of `tuwen embed FOLDER --output FILE`."""

    def __init__(self, server: GrpcServer, tmp_path: Path, suffix: str) -> None:
        self.server, self.photos, self.output = server, tmp_path / "photos", tmp_path / f"v{suffix}"
        self.photos.mkdir()

    def run(self, *options: str, code: int = 0) -> tuple[int, ...]:
        shown = tuwen(
            *("embed", str(self.photos), "-o", str(self.output), "-u", self.server.url, "--json", *options), code=code
        )
        told: dict[str, Any] = json.loads(shown.stdout)
        return tuple(told[name] for name in COUNTS)

    def names(self) -> set[str]:
        return {Path(key).name for key in EmbeddingTable.load(self.output).keys}

    def check(self) -> None:
        """Compare every vector with a new embedding of the picture."""
        table = EmbeddingTable.load(self.output)
        with Client(self.server.url) as clip:
            np.testing.assert_allclose(table.embeddings, clip.embed_images(list(table.keys)), atol=1e-6)


@pytest.fixture(params=[".npz", ".parquet"])
def embedding(server: GrpcServer, tmp_path: Path, request: pytest.FixtureRequest) -> Embedding:
    return Embedding(server, tmp_path, request.param)


def test_embeds_what_is_new_or_changed_and_removes_what_is_missing(embedding: Embedding) -> None:
    write(embedding.photos, a=1, b=2, c=3, d=4)
    assert embedding.run() == (4, 0, 0, 0, 0)
    assert embedding.run() == (0, 0, 4, 0, 0)
    write(embedding.photos, b=200, e=5)
    (embedding.photos / "c.png").unlink()
    (embedding.photos / "d.png").rename(embedding.photos / "renamed.png")
    assert embedding.run() == (2, 1, 1, 2, 0)
    assert embedding.names() == {"a.png", "b.png", "e.png", "renamed.png"}
    embedding.check()


def test_the_checksum_decides_if_only_the_time_differs(embedding: Embedding) -> None:
    write(embedding.photos, a=1)
    embedding.run()
    sent = len(embedding.server.calls)
    os.utime(embedding.photos / "a.png", ns=(1, 1))
    assert embedding.run() == (0, 0, 1, 0, 0)
    assert len(embedding.server.calls) == sent
    size = (embedding.photos / "a.png").stat().st_size
    other = next(data for shade in range(2, 256) if len(data := picture(shade)) == size)
    (embedding.photos / "a.png").write_bytes(other)
    assert embedding.run() == (0, 1, 0, 0, 0)
    embedding.check()


def test_a_file_with_the_same_size_and_time_is_not_read(embedding: Embedding) -> None:
    write(embedding.photos, a=1)
    embedding.run()
    before = (embedding.photos / "a.png").stat()
    (embedding.photos / "a.png").write_bytes(b"x" * before.st_size)
    os.utime(embedding.photos / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert embedding.run() == (0, 0, 1, 0, 0)


def test_keeps_missing_files_on_request_and_other_folders_always(embedding: Embedding) -> None:
    write(embedding.photos, a=1, b=2)
    embedding.run()
    first = embedding.photos
    embedding.photos = first.with_name("photos 2")
    embedding.photos.mkdir()
    write(embedding.photos, c=3)
    assert embedding.run() == (1, 0, 0, 0, 0)
    embedding.photos = first
    (first / "a.png").unlink()
    assert embedding.run("--keep-removed") == (0, 0, 1, 0, 0)
    assert embedding.names() == {"a.png", "b.png", "c.png"}
    assert embedding.run() == (0, 0, 1, 1, 0)
    assert embedding.names() == {"b.png", "c.png"}


def test_a_picture_that_is_broken_now_is_removed_and_one_that_is_unreadable_stays(embedding: Embedding) -> None:
    write(embedding.photos, a=1, b=2)
    embedding.run()
    (embedding.photos / "a.png").write_bytes(b"no picture")
    (embedding.photos / "b.png").unlink()
    (embedding.photos / "b.png").symlink_to(embedding.photos / "nowhere.png")
    added, changed, unchanged, removed, failed = embedding.run(code=1)
    assert (added, changed, unchanged) == (0, 0, 0)
    assert (removed, failed) == (1, 2)
    assert embedding.names() == {"b.png"}


def test_an_emptied_folder_removes_nothing_unless_confirmed(embedding: Embedding) -> None:
    write(embedding.photos, a=1)
    embedding.run()
    (embedding.photos / "a.png").unlink()
    command = ("embed", str(embedding.photos), "-o", str(embedding.output), "-u", embedding.server.url)
    assert "--confirm-removal" in " ".join(tuwen(*command, code=2).stderr.split())
    assert embedding.names() == {"a.png"}
    assert embedding.run("--confirm-removal") == (0, 0, 0, 1, 0)


def test_a_table_without_versions_is_embedded_again(embedding: Embedding) -> None:
    write(embedding.photos, a=1)
    embedding.run()
    table = EmbeddingTable.load(embedding.output)
    EmbeddingTable(table.keys, -table.embeddings, table.fingerprint).save(embedding.output)
    assert embedding.run() == (0, 1, 0, 0, 0)
    embedding.check()


@pytest.mark.parametrize(("folder", "kept"), [(".", {"/other/c.png", "../d.png"}), ("sub", {"a.png", "subject/e.png"})])
def test_only_the_given_folder_loses_rows(tmp_path: Path, folder: str, kept: set[str]) -> None:
    from tuwen_files import TableUpdate, TableWriter

    keys = ["a.png", "sub/b.png", "/other/c.png", "../d.png", "subject/e.png"]
    with TableWriter(tmp_path / "v.npz", "f", 1) as table:
        for key in keys:
            table.add(key, np.ones(1, np.float32))
    with TableWriter(tmp_path / "v.npz", "f", 1) as table:
        update = TableUpdate(table, [], folders=[folder], max_bytes=1)
        assert kept <= set(keys) - set(update.missing())
        update = TableUpdate(table, [], folders=[folder], unseen=[folder], max_bytes=1)
        assert update.missing() == []

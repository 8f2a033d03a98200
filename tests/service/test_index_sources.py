"""Tests of `tuwen index` and `tuwen embed` on sources that are damaged, empty, or hold files other than pictures."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from tests.support.command import tuwen
from tests.support.servers import RecordedServer
from tuwen_files import EmbeddingTable

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def index(server: RecordedServer, tmp_path: Path) -> Run:
    """Return a function that runs `tuwen index` with the given arguments, into the collection ``c``."""
    store = str(tmp_path / "store.db")

    def run(*arguments: object, code: int = 0) -> CompletedProcess[str]:
        options = ("--into", "c", "--store", store, "--url", server.grpc_url, "--no-progress")
        return tuwen("index", *map(str, arguments), *options, code=code)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for shade, name in enumerate(("a.png", "sub/b.png", "album.jpg/c.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (60 * shade, 0, 0)).save(root / name)
    return root


def test_only_regular_files_are_embedded(server: RecordedServer, folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "notes.txt").write_text("", encoding="utf-8")
    options = ("--output", str(tmp_path / "v.npz"), "--url", server.grpc_url, "--no-progress")
    done = tuwen("embed", str(folder), *options)
    assert "files that are not images: 1 .jpg (not a regular file), 1 .txt" in done.stderr
    keys = EmbeddingTable.load(tmp_path / "v.npz").keys
    assert sorted(keys) == [str(folder / name) for name in ("a.png", "album.jpg/c.png", "sub/b.png")]


def test_embedding_continues_after_a_broken_link(server: RecordedServer, folder: Path, tmp_path: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    options = ("--output", str(tmp_path / "v.npz"), "--url", server.grpc_url, "--no-progress")
    done = tuwen("embed", str(folder), *options, code=1)
    assert "3 added" in done.stdout
    assert f"{folder / 'gone.png'}: cannot read it: No such file or directory" in done.stderr
    listing = (tmp_path / "v.npz.refused.jsonl").read_text(encoding="utf-8")
    assert json.loads(listing)["reason"] == "unreadable"


def test_other_paths_to_a_folder_are_the_same_source(index: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert "3 added" in index(folder).stdout
    for path in (tmp_path / "link", f"{folder}/sub/..", f"{folder}/"):
        assert "0 added, 0 changed, 3 unchanged" in index(path).stdout


def test_a_search_shows_paths_that_exist(index: Run, server: RecordedServer, folder: Path, tmp_path: Path) -> None:
    (folder / "list.txt").write_text("a.png\n", encoding="utf-8")
    index(folder / "list.txt")
    done = tuwen("search", "c", "红色", "--store", str(tmp_path / "store.db"), "--url", server.grpc_url)
    assert str(folder / "a.png") in done.stdout


def test_an_empty_folder_removes_nothing_unless_confirmed(index: Run, folder: Path, tmp_path: Path) -> None:
    index(folder)
    folder.rename(tmp_path / "disk")
    folder.mkdir()
    done = index(folder, code=1)
    assert "0 removed" in done.stdout
    assert "--confirm-removal" in done.stderr
    assert "3 removed" in index(folder, "--confirm-removal").stdout


@pytest.mark.parametrize("damage", ["cut", "header", "gzip"])
def test_a_damaged_archive_prints_one_line_and_removes_no_picture(index: Run, tmp_path: Path, damage: str) -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for number in range(5):
            picture = io.BytesIO()
            noise = np.random.default_rng(number).integers(0, 255, (30, 30, 3), dtype=np.uint8)
            Image.fromarray(noise).save(picture, "PNG")
            member = tarfile.TarInfo(f"{number}.png")
            member.size = picture.tell()
            tar.addfile(member, io.BytesIO(picture.getvalue()))
    whole = output.getvalue()
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        place = tar.getmembers()[2].offset
    path = tmp_path / ("a.tar.gz" if damage == "gzip" else "a.tar")
    path.write_bytes(gzip.compress(whole) if damage == "gzip" else whole)
    assert "5 added" in index(path).stdout
    broken = {
        "cut": whole[:place],
        "header": whole[:place] + b"\xff" * 512 + whole[place + 512 :],
        "gzip": gzip.compress(whole)[:-3000],
    }
    path.write_bytes(broken[damage])
    done = index(path, code=1)
    assert "0 removed, 1 failed" in done.stdout
    assert "c holds 5 pictures" in done.stdout
    [line] = [line for line in done.stderr.splitlines() if "damaged" in line]
    assert f"'{path}' is damaged after its member" in line

"""Tests of the command `tuwen embed` on the real server."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support.command import tuwen
from tuwen import Client
from tuwen_files import EmbeddingTable
from tuwen_files._table_writer import TableWriter
from tuwen_repository.samples import sample
from tuwen_server import EmbeddedServer

CAT, COFFEE = str(sample("cat.jpg")), str(sample("coffee.jpg"))


def test_embeds_a_folder(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    folder = str(Path(CAT).parent)
    output = tmp_path / "vectors.npz"
    assert "5 added" in tuwen("embed", folder, "-o", str(output), "-u", server.grpc_url).stdout
    saved = EmbeddingTable.load(output)
    assert [Path(key).name for key in saved.keys] == [
        "astronaut.jpg",
        "cat.jpg",
        "coffee.jpg",
        "horse.png",
        "rocket.jpg",
    ]
    np.testing.assert_allclose(saved.embeddings[1], client.embed_images([CAT])[0], atol=1e-5)
    assert saved.fingerprint == client.model_card().fingerprint


@pytest.mark.parametrize("preprocess", ["server", "client"])
def test_adds_only_new_items_when_run_again(server: EmbeddedServer, tmp_path: Path, preprocess: str) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(Path(CAT).parent, photos, ignore=lambda _, names: [name for name in names if "cat" not in name])
    output = tmp_path / "vectors.parquet"
    arguments = ("embed", str(photos), "-o", str(output), "-u", server.grpc_url, "--preprocess", preprocess)
    assert "1 added" in tuwen(*arguments).stdout
    shutil.copy(COFFEE, photos)
    (photos / "broken.png").write_bytes(b"no image")
    finished = tuwen(*arguments, "--json", code=1)
    summary = json.loads(finished.stdout)
    assert (summary["added"], summary["unchanged"], summary["failed"]) == (1, 1, 1)
    assert "broken.png: the file is not an image" in finished.stderr
    listing = output.with_name("vectors.parquet.refused.jsonl")
    (refused,) = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    assert (Path(refused["key"]).name, refused["reason"]) == ("broken.png", "unsupported_format")
    shutil.copy(COFFEE, photos / "broken.png")
    assert "1 added" in tuwen(*arguments).stdout
    assert not listing.exists()
    with Client(server.grpc_url) as clip:
        table = EmbeddingTable.load(output, expected_fingerprint=clip.model_card().fingerprint)
        np.testing.assert_allclose(table.embeddings, clip.embed_images(list(table.keys)), atol=1e-5)
    assert [Path(key).name for key in table.keys] == ["cat.jpg", "coffee.jpg", "broken.png"]


def test_a_name_that_parquet_cannot_store_is_listed_and_skipped(server: EmbeddedServer, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(COFFEE, photos)
    shutil.copy(COFFEE, os.fsencode(photos) + b"/\xff.jpg")
    for suffix, code in ((".parquet", 1), (".npz", 0)):
        output = tmp_path / f"vectors{suffix}"
        finished = tuwen("embed", str(photos), "-o", str(output), "-u", server.grpc_url, code=code)
        assert f"{2 - code} added" in finished.stdout
        assert len(EmbeddingTable.load(output)) == 2 - code
    listing = tmp_path / "vectors.parquet.refused.jsonl"
    (refused,) = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    assert (os.fsencode(refused["key"]), refused["reason"]) == (os.fsencode(photos) + b"/\xff.jpg", "not_utf8")


def test_an_interrupted_run_keeps_its_finished_vectors(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, output = tmp_path / "texts.txt", tmp_path / "vectors.npz"
    keys = [f"第{number}句" for number in range(600)]
    texts.write_text("\n".join(keys), encoding="utf-8")
    command = ("embed", "--texts-from", str(texts), "-o", str(output), "-u", server.grpc_url)
    parts = tmp_path / "vectors.npz.parts"
    monkeypatch.setattr("tuwen_files._table_writer._ROWS_A_PART", 64)
    add = TableWriter.add

    def interrupt_after_the_first_part(writer: TableWriter, key: str, embedding: np.ndarray, version: str = "") -> None:
        add(writer, key, embedding, version)
        if (parts / "000000.npz").exists():
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(TableWriter, "add", interrupt_after_the_first_part)
        stopped = tuwen(*command, code=130)
    assert "stopping; run the same command again to resume" in stopped.stderr
    assert not output.exists()
    finished = json.loads(tuwen(*command, "--json").stdout)
    assert 64 <= finished["unchanged"] < 600
    assert finished["unchanged"] + finished["added"] == 600
    assert not parts.exists()
    assert list(EmbeddingTable.load(output).keys) == keys


def test_refuses_a_file_of_another_embedding_space_before_embedding(server: EmbeddedServer, tmp_path: Path) -> None:
    output = tmp_path / "vectors.npz"
    EmbeddingTable(["a"], np.ones((1, 64), dtype=np.float32), "b" * 32).save(output)
    refused = tuwen("embed", CAT, "-o", str(output), "-u", server.grpc_url, code=1).stderr
    assert "choose another output" in refused
    assert "b" * 32 in refused


def test_prints_vectors_as_json(server: EmbeddedServer, client: Client) -> None:
    printed = json.loads(tuwen("embed", "-t", "一只猫", "-t", "cat.jpg", "--json", "-u", server.grpc_url).stdout)
    assert [item["key"] for item in printed["items"]] == ["一只猫", "cat.jpg"]
    vectors = [item["embedding"] for item in printed["items"]]
    np.testing.assert_allclose(vectors, client.embed_texts(["一只猫", "cat.jpg"]), atol=1e-5)

"""Collections as users make them: by the command line, against the real server, with interruptions."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.command import TUWEN, started, tuwen, wait_until
from tuwen import Client
from tuwen_build.server import EmbeddedServer
from tuwen_search import Collection, Query
from tuwen_search.store import MilvusStore

COUNT = 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many pictures, no two alike, two of which are broken."""
    root, numbers = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(COUNT):
        path = root / f"{number // 1000:02}" / f"{number:05}.png"
        path.parent.mkdir(exist_ok=True)
        colours = numbers.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((16, 16), Image.Resampling.NEAREST).save(path)
    for number in (7, 19_000):
        (root / f"{number // 1000:02}" / f"{number:05}.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("store") / "collections.db")


def embedded(server: EmbeddedServer) -> int:
    """How many pictures, so far."""
    with Client(server.grpc_url) as clip:
        return clip.statistics()["image_embedding"].items


def test_twenty_thousand_pictures_are_indexed_once_each_though_it_is_killed_and_interrupted(
    server: EmbeddedServer, folder: Path, store: str
) -> None:
    command = [TUWEN, "index", str(folder), "--into", "pictures", "--store", store, "--url", server.grpc_url, "--json"]
    for how in (signal.SIGKILL, signal.SIGINT):
        before = embedded(server)
        with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            wait_until(lambda before=before: embedded(server) >= before + 5_000, running=process, seconds=300)
            process.send_signal(how)
            _, errors = process.communicate(timeout=60)
        assert process.returncode in (-signal.SIGKILL, 130), errors
        assert "Traceback" not in errors
    assert "the same command goes on from here" in errors
    done = json.loads(tuwen(*command[1:], code=1).stdout)  # two were left out
    assert done["pictures"] == COUNT - 2
    [report] = done["sources"]
    assert report["unchanged"] > 1_000
    assert report["added"] > 1_000
    assert report["added"] + report["unchanged"] == COUNT - 2
    assert {failure["name"] for failure in report["failures"]} == {"00/00007.png", "19/19000.png"}


def test_what_is_found_is_what_an_exact_search_finds(server: EmbeddedServer, folder: Path, store: str) -> None:
    with Client(server.grpc_url, timeout=60) as clip, Collection.open("pictures", clip, store=store) as pictures:
        kept = pictures._store.every("pictures", ["name", "vector"])
        names, vectors = zip(*((row["name"], row["vector"]) for row in kept), strict=True)
        assert len(set(names)) == len(names) == COUNT - 2  # each once
        matrix = np.asarray(vectors, np.float32)
        queries = [f"第{number}只猫" for number in range(50)]
        recalls, embedding, finding = [], [], []
        for query, vector in zip(queries, clip.embed_texts(queries), strict=True):
            exact = {names[index] for index in np.argsort(-(matrix @ vector))[:10]}
            results = pictures.search(query)
            recalls.append(len(exact & {hit.picture.name for hit in results.hits}) / 10)
            embedding.append(results.embedding_seconds * 1e3)
            finding.append(results.store_seconds * 1e3)
        path = folder / "03" / "03003.png"
        [best] = pictures.search(Query(image=path), limit=1).hits
    said = [
        f"{what} p50 {np.quantile(ms, 0.5):.1f} ms, p99 {np.quantile(ms, 0.99):.1f} ms"
        for what, ms in (
            ("embedding", embedding),
            ("store", finding),
        )
    ]
    print(f"recall {np.mean(recalls):.4f}; {'; '.join(said)}")
    assert np.mean(recalls) >= 0.99
    assert (best.picture.name, round(best.score, 3)) == ("03/03003.png", 1.0)


def test_the_command_line_searches_and_draws(server: EmbeddedServer, folder: Path, store: str, tmp_path: Path) -> None:
    where = ("--store", store, "--url", server.grpc_url)
    picture, sheet = folder / "05" / "05005.png", tmp_path / "sheet.png"
    done = tuwen(
        "search", "pictures", "红色", "--image", str(picture), "--without", "蓝色", *where, "--show", str(sheet)
    )
    assert str(picture) in done.stdout
    assert "ms to find" in done.stderr
    with Image.open(sheet) as drawn:
        assert drawn.width > 900
    found = json.loads(tuwen("search", "pictures", "红色", "-n", "3", "--page", "2", *where, "--json").stdout)
    assert [set(hit["parts"]) for hit in found["hits"]] == [{"红色"}] * 3
    filtered = tuwen("search", "pictures", "红色", "--where", 'name like "05/%"', *where, "--json")
    assert all(hit["name"].startswith("05/") for hit in json.loads(filtered.stdout)["hits"])


def test_wrong_use_is_one_line(server: EmbeddedServer, store: str, tmp_path: Path) -> None:
    where = ("--store", store, "--url", server.grpc_url)
    assert "there is no collection nothing" in tuwen("search", "nothing", "猫", *where, code=1).stderr
    assert "give a text, a picture, or both" in tuwen("search", "pictures", *where, code=1).stderr
    assert "cannot be used" in tuwen("search", "pictures", "猫", "--where", "x ==", *where, code=1).stderr
    assert "there is no" in tuwen("index", str(tmp_path / "x"), "--into", "pictures", *where, code=1).stderr
    assert "letters, digits and _" in tuwen("index", str(tmp_path), "--into", "a b", *where, code=1).stderr
    assert "--index is" in tuwen("index", str(tmp_path), "--into", "x", "--index", "y", *where, code=2).stderr
    with closing(MilvusStore(store)):
        assert "another process has it open" in tuwen("search", "pictures", "猫", *where, code=1).stderr

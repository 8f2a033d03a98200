"""Index 20,000 pictures with `tuwen index`, which is killed once and interrupted once before it finishes."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import TUWEN, started, tuwen, tuwen_process, wait_until
from tests.support.picture_folder import picture_name, recall_at_ten, write_pictures
from tests.support.servers import SharedServers
from tuwen import Client
from tuwen_search import Collection, Query
from tuwen_server import EmbeddedServer

COUNT = 20_000
BROKEN = (7, 19_000)


@dataclass
class Indexed:
    """The collection ``pictures``, which three runs of `tuwen index` filled.

    The first run was killed, the second run was interrupted with Ctrl-C, and the third run finished.

    Attributes:
        folder: the folder of the pictures.
        store: the path of the store's file.
        codes: the exit codes of the first and the second run.
        said: the standard error of the second run.
        report: the JSON that the third run printed.
    """

    folder: Path
    store: str
    codes: list[int]
    said: str
    report: dict[str, Any]


@pytest.fixture(scope="module")
def indexed(servers: SharedServers, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    folder = write_pictures(tmp_path_factory.mktemp("pictures"), COUNT, broken=BROKEN)
    store = str(tmp_path_factory.mktemp("store") / "collections.db")
    url = servers.on(repository).grpc_url
    command = ("index", str(folder), "--into", "pictures", "--store", store, "--url", url, "--json")
    codes, errors = [], ""
    for how in (signal.SIGKILL, signal.SIGINT):
        before = embedded(url)
        pipe = subprocess.PIPE
        with started([TUWEN, *command], stdout=pipe, stderr=pipe, text=True) as process:
            wait_until(lambda before=before: embedded(url) >= before + 5_000, running=process, seconds=300)
            process.send_signal(how)
            _, errors = process.communicate(timeout=60)
        codes.append(process.returncode)
    finished = tuwen_process(*command, code=1)  # two pictures are broken
    return Indexed(folder, store, codes, errors, json.loads(finished.stdout))


def embedded(url: str) -> int:
    """Return the number of pictures that the server has embedded since its start."""
    with Client(url) as clip:
        return clip.statistics()["image_embedding"].items


def test_every_picture_is_indexed_once_although_the_program_is_killed(indexed: Indexed) -> None:
    assert indexed.codes == [-signal.SIGKILL, 130]
    assert "Traceback" not in indexed.said
    assert "run the same command again to resume" in indexed.said
    assert indexed.report["pictures"] == COUNT - 2
    [report] = indexed.report["sources"]
    assert report["unchanged"] > 1_000
    assert report["added"] > 1_000
    assert report["added"] + report["unchanged"] == COUNT - 2
    assert {failure["name"] for failure in report["failures"]} == set(map(picture_name, BROKEN))


def test_finds_the_same_pictures_as_an_exact_search(server: EmbeddedServer, indexed: Indexed) -> None:
    with Client(server.grpc_url, timeout=60) as clip, Collection.open("pictures", clip, store=indexed.store) as opened:
        rows = list(opened._store.every("pictures", ["name", "vector"]))
        assert len({row["name"] for row in rows}) == len(rows) == COUNT - 2  # each picture once
        recall = recall_at_ten(opened, clip, rows, [f"第{number}只猫" for number in range(50)])
        [best] = opened.search(Query(image=indexed.folder / picture_name(3003)), limit=1).hits
    assert recall >= 0.99
    assert (best.picture.name, round(best.score, 3)) == (picture_name(3003), 1.0)


def test_filters_by_folder(server: EmbeddedServer, indexed: Indexed) -> None:
    where = ("--store", indexed.store, "--url", server.grpc_url)
    filtered = tuwen("search", "pictures", "红色", "--where", 'name like "05/%"', *where, "--json")
    hits = json.loads(filtered.stdout)["hits"]
    assert len(hits) == 10
    assert all(hit["name"].startswith("05/") for hit in hits)

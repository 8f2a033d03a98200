"""Tests of the commands `tuwen index` and `tuwen search` on the real server, with an interrupted indexing run."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.command import tuwen, tuwen_process
from tests.support.picture_folder import picture_name, recall_at_ten, write_pictures
from tests.support.servers import SharedServers
from tuwen import Client, ItemOutcome
from tuwen_search import Collection, Query
from tuwen_search.indexing import Indexing
from tuwen_search.store import MilvusStore
from tuwen_server import EmbeddedServer

COUNT = 400
BROKEN = (7, 390)


@dataclass
class Indexed:
    """The collection ``pictures``, which two runs of `tuwen index` filled. The first run was interrupted.

    Attributes:
        folder: the folder of the pictures.
        store: the path of the store's file.
        said: the standard error of the interrupted run.
        report: the JSON that the second run printed.
    """

    folder: Path
    store: str
    said: str
    report: dict[str, Any]


@pytest.fixture(scope="module")
def indexed(servers: SharedServers, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    folder = write_pictures(tmp_path_factory.mktemp("pictures"), COUNT, broken=BROKEN)
    store = str(tmp_path_factory.mktemp("store") / "collections.db")
    url = servers.on(repository).grpc_url
    command = ("index", str(folder), "--into", "pictures", "--store", store, "--url", url, "--json")
    take, taken = Indexing.take, 0

    def interrupt_at_300(indexing: Indexing, outcome: ItemOutcome) -> None:
        nonlocal taken
        take(indexing, outcome)
        taken += 1
        if taken == 300:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Indexing, "take", interrupt_at_300)
        stopped = tuwen(*command, code=130)
    finished = tuwen(*command, code=1)  # two pictures are broken
    return Indexed(folder, store, stopped.stderr, json.loads(finished.stdout))


def test_the_same_command_continues_an_interrupted_run(indexed: Indexed) -> None:
    assert "run the same command again to resume" in indexed.said
    assert indexed.report["pictures"] == COUNT - 2
    [report] = indexed.report["sources"]
    assert report["unchanged"] == 299  # one of the 300 pictures before the interruption is broken
    assert report["added"] + report["unchanged"] == COUNT - 2
    assert {failure["name"] for failure in report["failures"]} == set(map(picture_name, BROKEN))


def test_finds_the_same_pictures_as_an_exact_search(server: EmbeddedServer, indexed: Indexed) -> None:
    with Client(server.grpc_url, timeout=60) as clip, Collection.open("pictures", clip, store=indexed.store) as opened:
        rows = list(opened._store.every("pictures", ["name", "vector"]))
        assert len({row["name"] for row in rows}) == len(rows) == COUNT - 2  # each picture once
        recall = recall_at_ten(opened, clip, rows, [f"第{number}只猫" for number in range(20)])
        [best] = opened.search(Query(image=indexed.folder / picture_name(33)), limit=1).hits
    assert recall >= 0.99
    assert (best.picture.name, round(best.score, 3)) == (picture_name(33), 1.0)


def test_searches_and_draws_a_contact_sheet(server: EmbeddedServer, indexed: Indexed, tmp_path: Path) -> None:
    where = ("--store", indexed.store, "--url", server.grpc_url)
    picture, sheet = indexed.folder / picture_name(55), tmp_path / "sheet.png"
    done = tuwen(
        "search", "pictures", "红色", "--image", str(picture), "--without", "蓝色", *where, "--show", str(sheet)
    )
    assert str(picture) in done.stdout
    assert "ms to find" in done.stderr
    with Image.open(sheet) as drawn:
        assert drawn.width > 900


def test_results_are_paged_and_filtered(server: EmbeddedServer, indexed: Indexed) -> None:
    where = ("--store", indexed.store, "--url", server.grpc_url)
    found = json.loads(tuwen("search", "pictures", "红色", "-n", "3", "--page", "2", *where, "--json").stdout)
    assert [set(hit["parts"]) for hit in found["hits"]] == [{"红色"}] * 3
    first = json.loads(tuwen("search", "pictures", "红色", "-n", "6", *where, "--json").stdout)
    assert found["hits"] == first["hits"][3:]
    filtered = tuwen("search", "pictures", "红色", "--where", 'name like "00/0005%"', *where, "--json")
    names = [hit["name"] for hit in json.loads(filtered.stdout)["hits"]]
    assert sorted(names) == [picture_name(number) for number in range(50, 60)]


def test_wrong_arguments_print_one_line(server: EmbeddedServer, indexed: Indexed, tmp_path: Path) -> None:
    where = ("--store", indexed.store, "--url", server.grpc_url)
    assert "'nothing' is not a collection" in tuwen("search", "nothing", "猫", *where, code=1).stderr
    assert "expected a text, a picture, or both" in tuwen("search", "pictures", *where, code=1).stderr
    assert "invalid filter" in tuwen("search", "pictures", "猫", "--where", "x ==", *where, code=1).stderr
    assert "does not exist" in tuwen("index", str(tmp_path / "x"), "--into", "pictures", *where, code=1).stderr
    assert "letters, digits and _" in tuwen("index", str(tmp_path), "--into", "a b", *where, code=1).stderr
    assert "'--index'" in tuwen("index", str(tmp_path), "--into", "x", "--index", "y", *where, code=2).stderr


def test_names_the_cause_when_another_program_holds_the_store(server: EmbeddedServer, tmp_path: Path) -> None:
    store = str(tmp_path / "collections.db")
    with closing(MilvusStore(store)):
        Path(f"{store}.address").unlink()  # without this file, other processes cannot share the store
        refused = tuwen_process("search", "pictures", "猫", "--store", store, "--url", server.grpc_url, code=1)
    assert "another process holds it" in refused.stderr

"""Near-duplicates are grouped, similar pictures are found, and a search says if no picture matches the query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.support.collections import write
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen import Threshold
from tuwen_search.errors import QueryError
from tuwen_search.near_duplicates import _connected, near_duplicates
from tuwen_search.store import MilvusStore


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    with GrpcServer() as opened:
        yield opened


@pytest.fixture
def store(server: GrpcServer, tmp_path: Path) -> str:
    write(tmp_path, a=1, b=2, c=3)
    for copy in ("a copy", "b copy", "b again"):
        (tmp_path / f"{copy}.png").write_bytes((tmp_path / f"{copy[0]}.png").read_bytes())
    path = str(tmp_path / "store.db")
    tuwen("index", str(tmp_path), "--into", "c", "--store", path, "--url", server.url)
    return path


def test_groups_are_connected_by_pairs_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuwen_search.near_duplicates._BLOCK", 2)
    angles = np.radians([0, 90, 10, 20, 91, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert sorted(map(sorted, _connected(vectors, float(np.cos(np.radians(10.5)))))) == [[0, 2, 3], [1, 4]]


def test_the_command_groups_copies_and_draws_them(store: str, tmp_path: Path) -> None:
    shown = tuwen("duplicates", "c", "--store", store, "--show", str(tmp_path / "groups.png")).stdout
    assert "group 1: 3 pictures, identical files" in shown
    assert "2 groups of near-duplicates; 3 spare pictures" in shown
    assert (tmp_path / "groups.png").read_bytes().startswith(b"\x89PNG")
    groups = json.loads(tuwen("duplicates", "c", "--store", store, "--where", 'name like "a%"', "--json").stdout)[
        "groups"
    ]
    assert [[Path(one["path"]).name for one in group["pictures"]] for group in groups] == [["a copy.png", "a.png"]]
    with closing(MilvusStore(store)) as opened, pytest.raises(QueryError, match="above 0 and at most 1, got 97"):
        near_duplicates(opened, "c", threshold=97)


def test_finds_more_like_a_picture_and_says_when_nothing_fits(store: str, server: GrpcServer, tmp_path: Path) -> None:
    options = ("--store", store, "-u", server.url)
    best = json.loads(tuwen("search", "c", "红色", *options, "--json").stdout)["hits"][0]
    assert best["id"] in tuwen("search", "c", "红色", *options, "--show-ids").stdout
    like = json.loads(tuwen("search", "c", "--like", best["id"], "--min-score", "0.99", *options, "--json").stdout)
    assert {hit["sha256"] for hit in like["hits"]} == {best["sha256"]}
    hybrid = tuwen("search", "c", "红色", "--like", best["id"], "--without", "猫", *options, "--json").stdout
    assert set(json.loads(hybrid)["hits"][0]["parts"]) == {"红色", "picture", "猫"}
    assert "nothing fits: the best score is" in tuwen("search", "c", "红色", "--min-score", "0.99", *options).stdout
    file = tmp_path / "t.json"
    Threshold(("红色",), 0.99, server.fake.card.fingerprint).save(file)
    assert "below 0.990" in tuwen("search", "c", "红色", "--threshold", str(file), *options).stdout
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TUWEN_THRESHOLD", str(file))
        assert "below 0.990" in tuwen("search", "c", "红色", *options).stdout
    chosen = tuwen("search", "c", "红色", "--min-score", "-1", "--threshold", str(file), *options, "--json")
    assert json.loads(chosen.stdout)["min_score"] == -1
    mixed = tuwen("search", "c", "红色", "--without", "猫", "--threshold", str(file), *options)
    assert "--threshold was not used" in mixed.stderr
    assert "nothing fits" not in mixed.stdout
    Threshold(("红色",), best["score"] - 0.0005, server.fake.card.fingerprint).save(file)
    assert "are left out" in tuwen("search", "c", "红色", "--threshold", str(file), *options).stderr
    Threshold(("红色",), 0.99, "1" * 32).save(file)
    refused = tuwen("search", "c", "红色", "--threshold", str(file), *options, code=1).stderr
    assert "the threshold was calibrated with another model" in refused

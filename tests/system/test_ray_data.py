"""Tests of embedding Parquet shards with Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tuwen import Client
from tuwen_server import EmbeddedServer
from tuwen_server.traffic import photographs

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("ray", reason="Ray has no wheel for this Python")


def run(*arguments: str, code: int = 0) -> str:
    environment = {**os.environ, "RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "tuwen_files.ray_data", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_two_workers_embed_every_image_of_the_shards_once(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    pictures = photographs(20, size=(64, 48))
    (tmp_path / "in").mkdir()
    for shard in range(4):
        numbers = range(shard * 50, shard * 50 + 50)
        images = [{"bytes": pictures[number % 20], "path": None} for number in numbers]
        if shard == 2:
            images[0], images[1] = {"bytes": b"no picture", "path": None}, {"bytes": None, "path": "x"}
        table = arrow.table({"image": images, "id": list(numbers), "label": [f"第{number}" for number in numbers]})
        parquet.write_table(table, tmp_path / "in" / f"{shard}.parquet")
    said = run(str(tmp_path / "in"), str(tmp_path / "out"), "--url", server.grpc_url, "--batch-size", "32")
    assert "198 embedded by" in said
    assert "2 refused" in said
    rows = sorted(parquet.read_table(tmp_path / "out").to_pylist(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == list(range(200))
    assert set(rows[0]) == {"id", "label", "embedding", "error", "fingerprint"}
    assert {row["fingerprint"] for row in rows} == {client.model_card().fingerprint}
    assert [(row["id"], row["error"]) for row in rows if row["error"]] == [
        (100, "unsupported_format"),
        (101, "missing"),
    ]
    expected = client.embed_images(pictures)
    for row in rows:
        if row["error"] is None:
            assert np.abs(np.array(row["embedding"]) - expected[row["id"] % 20]).max() < 1e-5
        else:
            assert row["embedding"] is None


def test_a_missing_column_is_reported_with_the_existing_columns(server: EmbeddedServer, tmp_path: Path) -> None:
    parquet.write_table(arrow.table({"photo": [b"x"]}), tmp_path / "a.parquet")
    said = run(str(tmp_path / "a.parquet"), str(tmp_path / "out"), "--url", server.grpc_url, code=1)
    assert "--column: expected one of photo, got image" in said

"""The input file for perf_analyzer."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from tuwen_loadtest.perf_analyzer_input import main


def test_the_length_of_a_picture_stands_before_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.JPG").write_bytes(b"first")
    (tmp_path / "inner" / "b.png").write_bytes(b"the second")
    (tmp_path / "notes.txt").write_bytes(b"no picture")
    output = tmp_path / "images.json"
    main([str(tmp_path), "--output", str(output)])
    items = [base64.b64decode(item["image"]["b64"]) for item in json.loads(output.read_text("ascii"))["data"]]
    assert items == [b"\x05\0\0\0first", b"\x0a\0\0\0the second"]


def test_no_more_pictures_than_the_limit_are_written(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(b"picture")
    output = tmp_path / "images.json"
    main([str(tmp_path), "--output", str(output), "--limit", "2"])
    assert len(json.loads(output.read_text("ascii"))["data"]) == 2


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "album.jpg").mkdir()
    (tmp_path / "album.jpg" / "a.jfif").write_bytes(b"picture")
    output = tmp_path / "images.json"
    main([str(tmp_path), "--output", str(output)])
    assert len(json.loads(output.read_text("ascii"))["data"]) == 1


def test_rejects_a_folder_without_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--output", str(tmp_path / "images.json")])
    assert f"expected pictures in '{tmp_path}', found no file that ends in" in capsys.readouterr().err
    assert not (tmp_path / "images.json").exists()

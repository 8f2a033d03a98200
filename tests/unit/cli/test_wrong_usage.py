"""Commands reject options that contradict each other, or that name a file of the wrong kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.collections import picture
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer

THRESHOLD = '{"tuwen_threshold": 1, "texts": ["猫"], "cosine": 0.3, "fingerprint": "f", "checkpoint": "c"}'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of the commands, with a picture, a threshold file and an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.png").write_bytes(picture(3))
    (tmp_path / "cat.json").write_text(THRESHOLD, encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    return tmp_path


def words(text: str) -> str:
    """Return a message without the frame and the line breaks that Rich adds."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("build checkpoint", "expected --output FOLDER for the repository, or --explain"),
        ("classify cat.png", "expected either --label, or --threshold"),
        ("classify cat.png --label 猫 --threshold cat.json", "expected either --label, or --threshold"),
        ("classify cat.png --threshold cat.json --template zh", "--template works only with --label"),
        ("classify empty --label 猫 --label 狗", "empty holds no images"),
        (
            "calibrate --positive cat.png --negative empty -t 猫 -o x.json --recall 0.9 --precision 0.9",
            "expected --recall or --precision, got both",
        ),
        ("duplicates shop --show sheet.jpg", "--show: expected a .png file, got sheet.jpg"),
        ("search shop 猫 --show sheet.jpg", "--show: expected a .png file, got sheet.jpg"),
        ("embed cat.png", "expected --output FILE for the vectors, or --json to print them"),
        ("embed cat.png --text 猫 --json", "expected exactly one kind of input: images, --text or --texts-from"),
        ("embed cat.png -o vectors.txt", "expected a .npz or .parquet file for the vectors, got 'vectors.txt'"),
        ("evaluate retrieval empty --compare ViT-B-16", "--compare: expected ARCHITECTURE:BENCHMARK"),
        ("evaluate zero-shot classes --templates fr", "--templates: expected zh, en or none, got fr"),
    ],
)
def test_names_the_option_and_what_it_expects(command: str, message: str) -> None:
    assert message in words(tuwen(*command.split(), code=2).stderr)


def test_one_feature_file_without_the_other_is_refused(folder: Path) -> None:
    (folder / "test_imgs.tsv").write_text("1\taGk=\n", encoding="utf-8")
    (folder / "test_texts.jsonl").write_text('{"text_id": 1, "text": "猫", "image_ids": [1]}\n', encoding="utf-8")
    shown = tuwen("evaluate", "retrieval", ".", "--split", "test", "--image-features", "a.jsonl", code=2)
    assert "expected both --image-features and --text-features" in words(shown.stderr)


def test_a_named_template_cannot_be_combined() -> None:
    with GrpcServer() as server:
        command = ("classify", "cat.png", "--label", "猫", "--label", "狗", "--template", "zh", "--template", "{}的图")
        assert "--template: expected zh alone, got 2 templates" in tuwen(*command, "-u", server.url, code=1).stderr


def test_an_output_in_a_missing_folder_is_named() -> None:
    with GrpcServer() as server:
        shown = tuwen("embed", "--text", "猫", "-o", "/dev/null/vectors.npz", "-u", server.url, code=1)
    assert "cannot write to '/dev/null': Not a directory" in shown.stderr


def test_an_unreadable_folder_ends_a_command_that_prints_vectors(folder: Path) -> None:
    (folder / "empty" / "lost.png").symlink_to(folder / "missing.png")
    (folder / "empty" / "cat.png").write_bytes(picture(3))
    shown = tuwen("embed", "empty", "--json", code=1)
    assert "empty/lost.png: cannot read it: No such file or directory" in words(shown.stderr)

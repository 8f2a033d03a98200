"""`tuwen calibrate` chooses thresholds, and `tuwen classify` uses them and warns of labels that are probably wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.collections import picture
from tests.support.command import tuwen
from tests.support.grpc_server import GrpcServer
from tuwen import ModelCard

CATS = {picture(shade, 17) for shade in range(60)}


class Judge(GrpcServer):
    """A fake server that puts the vectors of the pictures in `CATS` near the vector of the text 猫."""

    def __init__(self) -> None:
        super().__init__()
        vector = self.fake._vector
        cat = vector("猫".encode(), self.fake.card)

        def near(item: bytes, card: ModelCard) -> np.ndarray:
            mixed = vector(item, card) + (cat if item in CATS else 0 * cat)
            return (mixed / np.linalg.norm(mixed)).astype(np.float32)

        self.fake._vector = near  # type: ignore[method-assign]


@pytest.fixture
def server() -> Iterator[GrpcServer]:
    with Judge() as opened:
        yield opened


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    for folder, side, count in (("cats", 17, 20), ("others", 16, 200)):
        (tmp_path / folder).mkdir()
        for shade in range(count):
            (tmp_path / folder / f"{shade}.png").write_bytes(picture(shade, side))
    return tmp_path


def test_a_calibrated_threshold_finds_pictures_that_it_was_not_chosen_from(server: GrpcServer, judged: Path) -> None:
    folders = ("--positive", str(judged / "cats"), "--negative", str(judged / "others"))
    output = judged / "cat.json"
    shown = tuwen("calibrate", *folders, "-t", "猫", "-o", str(output), "-u", server.url, "--base-rate", "0.03")
    assert "for a recall of 0.9" in shown.stdout
    assert "precision, if 3.0% of the pictures are positives" in shown.stdout
    assert json.loads(output.read_text(encoding="utf-8"))["measured"]["recall"]["low"] > 0.5
    (judged / "new").mkdir()
    for shade in range(20, 60):
        (judged / "new" / f"{shade}.png").write_bytes(picture(shade, 17))
    command = ("classify", str(judged / "new"), "--threshold", str(output), "-u", server.url)
    accepted = json.loads(tuwen(*command, "--json").stdout)["accepted"]
    assert len(accepted) == 40
    assert np.mean(accepted) >= 0.9
    assert "yes" in tuwen(*command).stdout


def test_too_few_examples_are_refused_before_anything_is_written(server: GrpcServer, judged: Path) -> None:
    command = ("calibrate", "--positive", str(judged / "cats" / "1.png"), "--negative", str(judged / "others"))
    shown = tuwen(*command, "-t", "猫", "-o", str(judged / "x.json"), "-u", server.url, code=1)
    assert "a recall of 0.9 needs at least 16 positive pictures, got 1" in shown.stderr
    assert not (judged / "x.json").exists()
    both = ("calibrate", "--positive", str(judged / "cats"), "--negative", str(judged / "cats"), "-t", "猫")
    assert "both --positive and --negative" in tuwen(*both, "-o", str(judged / "x.json"), code=2).stderr


def test_draws_the_scores(server: GrpcServer, judged: Path) -> None:
    pytest.importorskip("matplotlib")
    folders = ("--positive", str(judged / "cats"), "--negative", str(judged / "others"))
    files = ("-o", str(judged / "cat.json"), "--plot", str(judged / "cat.png"))
    tuwen("calibrate", *folders, "-t", "猫", *files, "-u", server.url, "--precision", "0.5")
    assert (judged / "cat.png").read_bytes().startswith(b"\x89PNG")


def test_one_label_and_joined_labels_are_noticed(server: GrpcServer, judged: Path) -> None:
    cat = str(judged / "cats" / "1.png")
    assert "means nothing" in tuwen("classify", cat, "-l", "猫", "-u", server.url).stderr
    noticed = tuwen("classify", cat, "-l", "猫,狗", "-l", "鸟", "-u", server.url).stderr
    assert "'猫,狗' is one label; for 2 labels pass --label 猫 --label 狗" in noticed
    assert tuwen("classify", str(judged / "cats"), "-l", "猫", "-l", "狗", "-u", server.url, "--json").stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("classify", "x.png", "-l", "猫", "-l", " "),
        ("similarity", "-i", "x.png", "-t", ""),
        ("embed", "-t", "猫", "-t", "", "--json"),
        ("calibrate", "--positive", "x", "--negative", "y", "-t", "", "-o", "z.json"),
    ],
)
def test_an_empty_text_is_refused(arguments: tuple[str, ...]) -> None:
    assert "is empty; pass a text" in " ".join(tuwen(*arguments, code=2).stderr.replace("│", "").split())

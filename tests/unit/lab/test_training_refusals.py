"""Errors that end a training before its first step."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.support.shapes import ARCHITECTURE, write_shapes
from tuwen import InvalidArgumentError
from tuwen_build.errors import CheckpointError, OutputExistsError
from tuwen_build.seeded import write_seeded_checkpoint
from tuwen_lab.training import Stage, TrainingOptions, train
from tuwen_lab.training._arithmetic import choose_arithmetic


class Silent:
    """An observer of trainings that ignores all reports."""

    def begin(self, stage: Stage, steps: int, done: int) -> None: ...

    def step(self, loss: float) -> None: ...

    def evaluated(self, evaluation: object, best: bool) -> None: ...

    def adjusted(self, reason: str) -> None: ...


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "music"}, "recipe: expected one of"),
        ({"precision": "int8"}, "precision: expected one of"),
        ({"optimizer": "sgd"}, "optimizer: expected one of"),
        ({"learning_rate": 0}, "learning_rate: expected a finite number above 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a finite number above 0, got nan"),
        ({"evaluate_every": float("inf")}, "evaluate_every: expected a finite number above 0, got inf"),
        ({"epochs": -1}, "epochs: expected a finite number of at least 0, got -1"),
        ({"epochs": float("nan")}, "epochs: expected a finite number"),
        ({"frozen_epochs": float("inf")}, "frozen_epochs: expected a finite number"),
        ({"batch_size": 1}, "batch_size: expected a number of at least 2"),
        ({"accumulate": 200}, "accumulate: expected at most the batch size of 128, got 200"),
        ({"kept_patches": 0}, "kept_patches: expected a finite number above 0 and at most 1"),
        ({"average": 1}, "average: expected a finite number of at least 0 and below 1"),
        ({"context_length": 2}, "context_length: expected a number of at least 3"),
    ],
)
def test_refuses_invalid_options(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        TrainingOptions(**settings)  # type: ignore[arg-type]


def test_refuses_unavailable_devices_and_precisions() -> None:
    with pytest.raises(InvalidArgumentError, match="device 'quantum' is not available"):
        choose_arithmetic("quantum", "auto")
    with pytest.raises(InvalidArgumentError, match="needs a GPU"):
        choose_arithmetic("cpu", "fp16")


def test_refuses_repeated_and_broken_pictures_and_pictures_without_text(shapes: Path, tmp_path: Path) -> None:
    lines = (shapes / "train_imgs.tsv").read_text("ascii").splitlines(keepends=True)
    texts = (shapes / "train_texts.jsonl").read_text("utf-8")
    (tmp_path / "train_texts.jsonl").write_text(texts, encoding="utf-8")
    broken = f"0\t{base64.b64encode(b'no picture').decode()}\n"
    for content, message in (
        ([*lines, lines[0]], "line 49: the id 0 is repeated"),
        ([*lines, lines[0].replace("0", "999", 1)], "1 of 49 images .* have no text, such as .999"),
        ([broken, *lines[1:]], "line 1, image 0: not a picture of a known format"),
        (["0 no tab\n"], "line 1: expected an integer, a tab and an image in base64"),
    ):
        (tmp_path / "train_imgs.tsv").write_text("".join(content), encoding="ascii")
        with pytest.raises(InvalidArgumentError, match=message):
            train(tmp_path, tmp_path / "out", TrainingOptions(), observer=Silent())


def test_refuses_checkpoints_that_training_cannot_start_from(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        train(shapes, tmp_path / "out", TrainingOptions(), checkpoint="nowhere", observer=Silent())
    start = write_seeded_checkpoint(tmp_path / "start")
    with pytest.raises(InvalidArgumentError, match="a checkpoint has its own"):
        train(
            shapes,
            tmp_path / "out",
            TrainingOptions(),
            checkpoint=str(start),
            architecture=shapes / "architecture.json",
            observer=Silent(),
        )


def test_refuses_an_existing_output_and_an_invalid_config(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "training.json").touch()
    with pytest.raises(OutputExistsError, match="--force replaces it"):
        train(shapes, tmp_path, TrainingOptions(), observer=Silent())
    for content in ("{}", "[", json.dumps({**ARCHITECTURE, "text_config": {"vocab_size": 7}})):
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
        with pytest.raises(InvalidArgumentError, match="config.json"):
            train(
                shapes,
                tmp_path / "out",
                TrainingOptions(),
                architecture=tmp_path / "config.json",
                observer=Silent(),
            )


def test_refuses_to_resume_without_a_saved_state(shapes: Path, tmp_path: Path) -> None:
    start = write_seeded_checkpoint(tmp_path / "tiny")
    with pytest.raises(InvalidArgumentError, match="nothing to resume"):
        train(shapes, tmp_path / "out", TrainingOptions(), checkpoint=str(start), resume=True, observer=Silent())

"""The output of a training: only an earlier training is replaced, and other folders are refused before the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.shapes import write_shapes
from tuwen_build.errors import OutputExistsError
from tuwen_lab.training import TrainingOptions, train


class NoTraining:
    """An observer of trainings that fails the test as soon as a stage begins."""

    def begin(self, *_: object) -> None:
        pytest.fail("the training must not begin")

    step = evaluated = begin


def refuse(data: Path, output: Path, message: str) -> None:
    """Check that a training with ``--force`` is refused with this message."""
    options = TrainingOptions(device="cpu", precision="fp32")
    with pytest.raises(OutputExistsError, match=message):
        train(data, output, options, architecture=data / "architecture.json", force=True, observer=NoTraining())


def test_force_does_not_replace_a_folder_that_is_not_a_training(tmp_path: Path) -> None:
    data, thesis = write_shapes(tmp_path / "data"), tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "thesis.txt").touch()
    refuse(data, thesis, r"training\.json is missing")
    assert (thesis / "thesis.txt").exists()


def test_the_data_set_itself_is_refused_as_output(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data")
    refuse(data, data, "not changed")
    assert (data / "train_imgs.tsv").exists()


def test_a_folder_of_other_files_beside_the_output_is_not_cleared(tmp_path: Path) -> None:
    data, progress = write_shapes(tmp_path / "data"), tmp_path / "out.training"
    progress.mkdir()
    (progress / "notes.txt").touch()
    refuse(data, tmp_path / "out", "'notes.txt'")
    assert (progress / "notes.txt").exists()

"""Tests of the command `tuwen train` with short trainings from random weights. One training is interrupted."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import ChineseCLIPModel

from tests.support.command import tuwen
from tests.support.shapes import write_shapes
from tests.support.training import from_random_weights
from tuwen_cli.train import _Bar

LENGTHS = {"start_epochs": 40, "frozen_epochs": 2, "epochs": 4}
STEPS_PER_EPOCH = 2


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def trained(shapes: Path) -> Path:
    """Return the checkpoint of an uninterrupted training. Do not change its files."""
    output = shapes / "trained"
    shown = tuwen(*from_random_weights(shapes, output, **LENGTHS)).stdout
    assert "best at step" in shown
    return output


def test_learns_in_three_stages(trained: Path) -> None:
    history = json.loads((trained / "training.json").read_text("utf-8"))["history"]
    stages = dict(history["stages"])
    assert list(stages) == ["start", "frozen", "whole"]
    assert list(stages.values()) == [0, 40 * STEPS_PER_EPOCH, 42 * STEPS_PER_EPOCH]
    losses = [loss for step, loss in history["losses"] if step <= stages["frozen"]]
    assert losses[-1] < 0.9 * losses[0]
    assert (trained / "training.png").read_bytes().startswith(b"\x89PNG")
    assert not trained.with_name("trained.training").exists()


def test_writes_a_checkpoint_that_builds(trained: Path, tmp_path: Path) -> None:
    assert ChineseCLIPModel.from_pretrained(trained).dtype == torch.float16
    built = tuwen("build", str(trained), "-o", str(tmp_path / "repository"), "--image-rules", "display", "--json")
    assert json.loads(built.stdout)["embedding_dimension"] == 32


def test_continues_after_ctrl_c(shapes: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = shapes / "interrupted"
    command = from_random_weights(shapes, output, **LENGTHS)
    step, done = _Bar.step, 0

    def interrupt_at_30(bar: _Bar, loss: float) -> None:
        nonlocal done
        done += 1
        if done == 30:
            signal.raise_signal(signal.SIGINT)
        step(bar, loss)

    with monkeypatch.context() as patched:
        patched.setattr(_Bar, "step", interrupt_at_30)
        stopped = tuwen(*command, code=130)
    assert "run the same command with --resume" in stopped.stderr
    assert not output.exists()
    assert "with other settings: seed" in tuwen(*command, "--resume", "--seed=1", code=1).stderr
    assert "holds an interrupted training" in tuwen(*command, code=1).stderr
    resumed = json.loads(tuwen(*command, "--resume", "--json").stdout)
    assert resumed["steps"] == sum(LENGTHS.values()) * STEPS_PER_EPOCH
    expected, found = (load_file(folder / "model.safetensors") for folder in (trained, output))
    for name, weights in expected.items():
        torch.testing.assert_close(found[name].float(), weights.float(), rtol=2e-2, atol=2e-3)


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data")
    with (data / "train_texts.jsonl").open("a", encoding="utf-8") as texts:
        texts.write('{"text_id": 9000, "text": null, "image_ids": [1]}\n')
    with (data / "train_imgs.tsv").open("a", encoding="utf-8") as images:
        images.write("9001\tno base64!\n")
    command = from_random_weights(data, tmp_path / "out", start_epochs=1, frozen_epochs=0, epochs=0)
    assert "line 49" in tuwen(*command, code=1).stderr
    done = tuwen(*command, "--skip-bad-rows", "--force")
    assert "2 bad rows were skipped" in done.stderr
    assert json.loads((tmp_path / "out" / "training.json").read_text("utf-8"))["skipped_rows"] == 2

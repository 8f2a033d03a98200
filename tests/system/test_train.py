"""Tests of complete trainings with `tuwen train`: learning, fine-tuning, and Ctrl-C in a separate process.

`tests/service/test_train_command.py` tests a short training in the test's process.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import ChineseCLIPModel

from tests.support.command import TUWEN, started, tuwen, wait_until
from tests.support.shapes import write_shapes
from tests.support.training import from_random_weights

LENGTHS = {"start_epochs": 120, "frozen_epochs": 6, "epochs": 30}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def trained(shapes: Path) -> Path:
    """Return the checkpoint of a training from random weights. Do not change its files."""
    output = shapes / "trained"
    assert "best at step" in tuwen(*from_random_weights(shapes, output, **LENGTHS)).stdout
    return output


def test_training_learns_to_retrieve_the_shapes(trained: Path) -> None:
    report = json.loads((trained / "training.json").read_text("utf-8"))
    assert report["best"]["mean"] > 90  # in per cent; a random choice among eight things gives 12.5
    stages = dict(report["history"]["stages"])
    assert list(stages) == ["start", "frozen", "whole"]
    started = [loss for step, loss in report["history"]["losses"] if step <= stages["frozen"]]
    assert started[-1] < 0.8 * started[0]
    assert (trained / "training.png").read_bytes().startswith(b"\x89PNG")
    assert not trained.with_name("trained.training").exists()


def test_the_served_checkpoint_has_the_recalls_of_the_validation(shapes: Path, trained: Path) -> None:
    model = ChineseCLIPModel.from_pretrained(trained)
    assert model.dtype == torch.float16
    repository = shapes / "repository"
    tuwen("build", str(trained), "-o", str(repository), "--image-rules", "display")
    arguments = ("--split=valid", "--repository", str(repository), "--json")
    shown = json.loads(tuwen("evaluate", "retrieval", str(shapes), *arguments).stdout)
    best = json.loads((trained / "training.json").read_text("utf-8"))["best"]
    assert [shown["text_to_image"][name] for name in ("r1", "r5", "r10")] == pytest.approx(best["text_to_image"])


def test_fine_tuning_has_two_stages_and_stops_early(shapes: Path, trained: Path) -> None:
    arguments = ("--epochs=40", "--frozen-epochs=2", "--batch-size=16", "--learning-rate=1e-6", "--precision=bf16")
    output = shapes / "tuned"
    shown = tuwen(
        *("train", str(shapes), "-o", str(output), "--checkpoint", str(trained), *arguments, "--patience=3"),
        *("--accumulate=2", "--json"),
    )
    summary = json.loads(shown.stdout)
    assert summary["stopped_early"]
    assert summary["steps"] < 40 * 3
    report = json.loads((output / "training.json").read_text("utf-8"))
    assert [name for name, _ in report["history"]["stages"]] == ["frozen", "whole"]


def test_a_frozen_image_tower_keeps_its_weights(shapes: Path, trained: Path) -> None:
    output = shapes / "frozen"
    arguments = ("--frozen-epochs=2", "--epochs=0", "--batch-size=16", "--average=0", "--warmup-steps=1")
    tuwen("train", str(shapes), "-o", str(output), "--checkpoint", str(trained), *arguments)
    before, after = (load_file(folder / "model.safetensors") for folder in (trained, output))
    same = {name for name, weights in before.items() if weights.equal(after[name])}
    assert {name for name in before if name.startswith(("vision_model.", "visual_projection."))} <= same
    assert any(name.startswith("text_model.encoder") for name in before.keys() - same)


def test_continues_after_ctrl_c_in_a_process(shapes: Path, trained: Path) -> None:
    output = shapes / "interrupted"
    command = [TUWEN, *from_random_weights(shapes, output, **LENGTHS)]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        wait_until((output.with_name("interrupted.training") / "state.pt").exists, running=running, seconds=120)
        running.send_signal(signal.SIGINT)
        shown = running.communicate(timeout=60)[0]
    assert running.returncode == 130, shown
    assert "--resume" in shown
    assert not output.exists()
    assert "with other settings: seed" in tuwen(*command[1:], "--resume", "--seed=1", code=1).stderr
    assert "holds an interrupted training" in tuwen(*command[1:], code=1).stderr
    tuwen(*command[1:], "--resume")
    expected, found = (load_file(folder / "model.safetensors") for folder in (trained, output))
    for name, weights in expected.items():
        torch.testing.assert_close(found[name].float(), weights.float(), rtol=2e-2, atol=2e-3)

"""Errors for data sets, feature files and training states that cannot be used."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from tuwen import Client, InvalidArgumentError
from tuwen.testing import FakeTransport
from tuwen_build.errors import BuildError, CheckpointError, OutputExistsError
from tuwen_lab.datasets import ClassFolder, RetrievalSplit
from tuwen_lab.datasets.emoji import _artwork, _classes, _packages
from tuwen_lab.evaluation import Features, ZeroShotReport, embed_split, evaluate_zero_shot
from tuwen_lab.evaluation.plots import plot_confusion
from tuwen_lab.options import TrainingOptions
from tuwen_lab.published import _checks
from tuwen_lab.training import _captions, _start, _state, _trainer
from tuwen_server.errors import ServeError


def split_of(folder: Path, images: str = "1\taGk=\n") -> RetrievalSplit:
    (folder / "train_imgs.tsv").write_text(images, encoding="utf-8")
    (folder / "train_texts.jsonl").write_text('{"text_id": 1, "text": "猫", "image_ids": [1]}\n', encoding="utf-8")
    return RetrievalSplit(folder, "train")


def test_every_vector_needs_an_id() -> None:
    with pytest.raises(InvalidArgumentError, match="expected as many ids as vectors, got 1 ids and 2 vectors"):
        Features([7], np.zeros((2, 4), dtype=np.float32))


def test_a_plot_in_a_missing_folder_is_named(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = ZeroShotReport(100.0, 100.0, 100.0, ("cat",), np.ones((1, 1), dtype=np.int64))
    with pytest.raises(InvalidArgumentError, match=f"cannot write '{tmp_path / 'no' / 'plot.png'}': .*No such file"):
        plot_confusion(report, tmp_path / "no" / "plot.png")


def test_a_refused_image_ends_a_zero_shot_evaluation(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "broken.png").write_bytes(b"not an image")
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="rejected .*broken.png"):
        evaluate_zero_shot(clip, ClassFolder(tmp_path), "none")


def test_a_split_without_images_cannot_be_embedded(tmp_path: Path) -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="holds no images"):
        embed_split(clip, split_of(tmp_path, images="\n"))


def test_a_data_set_of_classes_needs_folders_with_images(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a folder for each class"):
        ClassFolder(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(InvalidArgumentError, match="hold no images"):
        ClassFolder(tmp_path).images()


def test_a_repeated_image_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="the image 1 is repeated"):
        _captions.Captions(split_of(tmp_path), [1, 2, 1])


def test_training_starts_only_from_chinese_clip(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a Chinese-CLIP checkpoint in the layout of Hugging Face"):
        _start.open_start(str(tmp_path))


def test_a_state_of_another_training_cannot_be_resumed(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    state.write_bytes(b"damaged")
    with pytest.raises(InvalidArgumentError, match="as the state of a training"):
        _state.load_state(state, {})
    _state.save_state(state, {"settings": {"seed": 1, "epochs": 2}})
    with pytest.raises(InvalidArgumentError, match="a training with other settings: seed; use the same settings"):
        _state.load_state(state, {"seed": 2, "epochs": 2})


def test_an_interrupted_training_is_replaced_only_on_request(tmp_path: Path) -> None:
    split_of(tmp_path)
    (tmp_path / "out.training").mkdir()
    (tmp_path / "out.training" / "state.pt").touch()
    with pytest.raises(OutputExistsError, match="--resume continues it, --force starts again"):
        _trainer.train(tmp_path, tmp_path / "out", TrainingOptions(), observer=SimpleNamespace())  # type: ignore[arg-type]


def test_only_published_recalls_are_compared(tmp_path: Path) -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="no recall of RN50 on X"):
        _checks.check_recalls(clip, "RN50", {"X": split_of(tmp_path)})


def test_packages_of_another_structure_are_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=f"{tmp_path} is not a package of artwork: expected icons.json or"):
        next(_artwork.pictures(tmp_path, SimpleNamespace(), 8))  # type: ignore[arg-type]
    with pytest.raises(BuildError, match="cannot read the emoji names in .*: .*No such file"):
        _classes.read_classes(tmp_path)


def test_npm_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never_ends(command: list[str], *, timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", never_ends)
    with pytest.raises(BuildError, match=r"npm did not fetch x@1\.0 within ten minutes"):
        _packages.fetch(_packages.Package("x", "1.0"), tmp_path)


def test_the_demo_shows_why_curl_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn")
    from tuwen_lab.demo import __main__ as demo

    failed = subprocess.CompletedProcess(["curl"], 22, "", "curl: (22) error: 503")
    monkeypatch.setattr(demo.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(demo.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ServeError, match=r"curl ended with code 22: curl: \(22\) error: 503"):
        demo._ask_over_http("localhost:1")

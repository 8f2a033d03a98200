"""Tests of the command `tuwen build`, run in the test's process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import TextSizes, write_taiyi
from tests.support.command import tuwen
from tuwen import TuwenError
from tuwen_build.hardware import choose_precision


def test_builds_and_replaces_a_repository(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "repository"
    built = tuwen("build", str(checkpoint), "--output", str(output), "--max-batch-size", "4")
    assert "comparing texts with the reference" in built.stderr
    assert f"Serve it with: tuwen serve {output}" in built.stdout.replace("\n", "")
    assert "--force" in tuwen("build", str(checkpoint), "--output", str(output), code=1).stderr
    choices = {"precision": "int8", "image_rules": "display", "jpeg_decoding": "scaled", "text_rules": "evaluation"}
    arguments = [part for name, value in choices.items() for part in (f"--{name.replace('_', '-')}", value)]
    again = tuwen("build", str(checkpoint), "-o", str(output), "--force", *arguments, "--json")
    manifest = json.loads(again.stdout)
    assert {name: manifest[name] for name in choices} == choices
    tokenizer = json.loads((output / "text_tokenization/1/tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer["rules"] == {"straighten_quotes": True}


class BuiltNothingError(TuwenError):
    """The error that ends a fake build before anything is built."""


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the build by a fake that fails, and return a dict that the fake fills with the arguments of the build."""
    asked: dict[str, Any] = {}

    def build_repository(checkpoint: str, output: Path, options: Any, **others: Any) -> None:
        asked.update(vars(options), checkpoint=checkpoint, output=output, **others)
        raise BuiltNothingError("the test replaced the build, so nothing was built")

    monkeypatch.setattr("tuwen_build.repository.build_repository", build_repository)
    return asked


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8"])
def test_every_precision_reaches_the_build(checkpoint: Path, asked_for: dict[str, Any], precision: str) -> None:
    tuwen("build", str(checkpoint), "-o", "out", "--precision", precision, code=1)
    assert asked_for["precision"] == precision


def test_auto_chooses_the_precision_of_this_machine(checkpoint: Path, asked_for: dict[str, Any]) -> None:
    finished = tuwen("build", str(checkpoint), "-o", "out", "--precision", "auto", code=1)
    said = re.search(r"precision (\w+): \S.*", finished.stderr)
    assert said
    assert asked_for["precision"] == said[1] == choose_precision().precision


def test_explain_builds_nothing(checkpoint: Path, tmp_path: Path) -> None:
    lines = tuwen("build", str(checkpoint), "--explain", "-o", str(tmp_path / "out")).stdout.splitlines()
    assert lines[0] == "family       chinese-clip: Hugging Face layout"
    assert lines[1].startswith("image tower  ViT, patch 16, 96 wide, 3 layers, 4 heads, quick_gelu; 0.4 M parameters")
    assert not (tmp_path / "out").exists()
    explanation = json.loads(tuwen("build", str(checkpoint), "--explain", "--json").stdout)
    assert explanation["embedding_dimension"] == 64
    assert explanation["tokenizer"] == "WordPiece, as in cn_clip"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--explain", "--vision", "openai/clip-vit-base-patch32"), 1, "--vision does not apply to"),
        (("--explain", "--heads", "12"), 2, "'--heads': expected the numbers of attention heads"),
        ((), 2, "expected --output FOLDER"),
        (("-o", "out", "--text-rules", "unmasked"), 1, "text_rules: expected reference or evaluation for chinese-clip"),
    ],
)
def test_names_the_option_that_does_not_apply(
    checkpoint: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    assert message in tuwen("build", str(checkpoint), *arguments, code=code).stderr


def test_a_taiyi_text_tower_asks_for_its_image_tower(tmp_path: Path) -> None:
    folder = write_taiyi(tmp_path / "taiyi", TextSizes(96, 1, 4))
    finished = tuwen("build", str(folder), "-o", str(tmp_path / "out"), code=1)
    assert "the OpenAI CLIP with which it was trained" in finished.stderr
    assert not (tmp_path / "out").exists()

"""What the options of a build decide: which are allowed, and which name another embedding space."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tuwen import BuildError, InvalidArgumentError
from tuwen_build.assembly import check_options, model_card, write_python_models
from tuwen_build.checkpoints import open_checkpoint
from tuwen_build.encoders import text_encoder, vision_encoder
from tuwen_build.errors import NotARepositoryError
from tuwen_build.manifest import Manifest
from tuwen_build.options import BuildOptions


class TestOptions:
    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16, int8"),
            ({"max_batch_size": 0}, "max batch size"),
            ({"context_length": 2}, "leaves no room"),
            ({"image_rules": "x"}, "image rules"),
            ({"jpeg_decoding": "x"}, "JPEG decoding"),
            ({"text_rules": "x"}, "text rules"),
        ],
    )
    def test_rejects_unknown_choices(self, choice: dict[str, object], message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            BuildOptions(**choice)  # type: ignore[arg-type]

    def test_rejects_a_context_longer_than_the_positions(self, short_checkpoint: Path) -> None:
        with pytest.raises(BuildError, match="65 is more than the checkpoint's 64 positions"):
            check_options(open_checkpoint(str(short_checkpoint)), BuildOptions(context_length=65))

    def test_rejects_text_rules_of_another_family(self, short_checkpoint: Path) -> None:
        with pytest.raises(BuildError, match="text rules of chinese-clip are reference or evaluation, not unmasked"):
            check_options(open_checkpoint(str(short_checkpoint)), BuildOptions(text_rules="unmasked"))

    @pytest.mark.parametrize(
        ("options", "model", "file", "key", "value"),
        [
            (BuildOptions(image_rules="display"), "image_preprocessing", "preprocessing", "rules", "display"),
            (BuildOptions(jpeg_decoding="scaled"), "image_preprocessing", "preprocessing", "jpeg_decoding", "scaled"),
            (BuildOptions(context_length=20), "text_tokenization", "tokenizer", "context_length", 20),
            (
                BuildOptions(text_rules="evaluation"),
                "text_tokenization",
                "tokenizer",
                "rules",
                {"straighten_quotes": True},
            ),
        ],
    )
    def test_python_models_read_them(
        self,
        short_checkpoint: Path,
        tmp_path: Path,
        options: BuildOptions,
        model: str,
        file: str,
        key: str,
        value: object,
    ) -> None:
        write_python_models(tmp_path, open_checkpoint(str(short_checkpoint)), options)
        settings = json.loads((tmp_path / model / "1" / f"{file}.json").read_text(encoding="utf-8"))
        assert settings[key] == value


def fingerprint(folder: Path, options: BuildOptions | None = None) -> str:
    """Return the fingerprint that a repository of a checkpoint would have."""
    checkpoint, options = open_checkpoint(str(folder)), options or BuildOptions()
    encoders = vision_encoder(checkpoint, options.precision), text_encoder(checkpoint, options.precision)
    return model_card(checkpoint, options, *encoders).fingerprint


class TestFingerprint:
    @pytest.fixture
    def copied(self, short_checkpoint: Path, tmp_path: Path) -> Path:
        return shutil.copytree(short_checkpoint, tmp_path / "copied")

    def test_place_and_batch_size_do_not_change_it(self, short_checkpoint: Path, copied: Path) -> None:
        assert fingerprint(copied, BuildOptions(max_batch_size=4)) == fingerprint(short_checkpoint)

    @pytest.mark.parametrize(
        "options",
        [
            BuildOptions(context_length=20),
            BuildOptions(image_rules="display"),
            BuildOptions(jpeg_decoding="scaled"),
            BuildOptions(text_rules="evaluation"),
            BuildOptions(precision="bf16"),
            BuildOptions(precision="int8"),
        ],
    )
    def test_other_rules_change_it(self, short_checkpoint: Path, options: BuildOptions) -> None:
        assert fingerprint(short_checkpoint, options) != fingerprint(short_checkpoint)

    @pytest.mark.parametrize("name", ["text_projection.weight", "vision_model.post_layernorm.bias"])
    def test_one_changed_weight_changes_it(self, short_checkpoint: Path, copied: Path, name: str) -> None:
        weights = load_file(copied / "model.safetensors")
        weights[name].flatten()[0] += 1e-3
        save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
        assert fingerprint(copied) != fingerprint(short_checkpoint)

    def test_another_vocabulary_changes_it(self, short_checkpoint: Path, copied: Path) -> None:
        tokens = (copied / "vocab.txt").read_text(encoding="utf-8").split("\n")
        tokens[7], tokens[8] = tokens[8], tokens[7]
        (copied / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
        assert fingerprint(copied) != fingerprint(short_checkpoint)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"family": 1}'])
def test_a_broken_manifest_is_rejected(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(NotARepositoryError, match="is not the manifest of a build"):
        Manifest.read(tmp_path)

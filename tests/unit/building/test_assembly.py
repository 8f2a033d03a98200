"""The options of a build, the options that change the fingerprint of the embedding space, and the built manifest."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.stand_in import write_repository
from tuwen import InvalidArgumentError
from tuwen_build.checkpoints import open_checkpoint
from tuwen_build.errors import BuildError
from tuwen_build.export.assembly import check_options, embedding_space, model_card, pixel_rules, write_python_models
from tuwen_build.export.encoders import text_encoder, vision_encoder
from tuwen_build.export.fingerprint import arithmetic
from tuwen_build.options import BuildOptions
from tuwen_build.towers._resnet import _AttentionPooling
from tuwen_repository.checksums import file_hashes
from tuwen_repository.errors import DamagedRepositoryError, NotARepositoryError
from tuwen_repository.manifest import Manifest


class TestOptions:
    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            ({"precision": "fp8"}, "precision: expected one of auto, fp32, bf16, fp16, int8"),
            ({"max_batch_size": 0}, "max_batch_size: expected a number from 1 to 1,024"),
            ({"context_length": 2}, "context_length: expected a number of at least 3"),
            ({"image_rules": "x"}, "image_rules: expected one of"),
            ({"jpeg_decoding": "x"}, "jpeg_decoding: expected one of"),
            ({"text_rules": "x"}, "text_rules: expected one of"),
        ],
    )
    def test_rejects_values_that_are_not_allowed(self, choice: dict[str, object], message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            BuildOptions(**choice)  # type: ignore[arg-type]

    def test_rejects_a_context_longer_than_the_positions(self, short_checkpoint: Path) -> None:
        with pytest.raises(BuildError, match="expected at most 64, .*; got 65"):
            check_options(open_checkpoint(str(short_checkpoint)), BuildOptions(context_length=65))

    def test_rejects_text_rules_of_another_family(self, short_checkpoint: Path) -> None:
        with pytest.raises(BuildError, match="expected reference or evaluation for chinese-clip, got unmasked"):
            check_options(open_checkpoint(str(short_checkpoint)), BuildOptions(text_rules="unmasked"))

    @pytest.mark.parametrize(
        ("options", "model", "file", "key", "value"),
        [
            (BuildOptions(image_rules="display"), "image_preprocessing", "preprocessing", "image_rules", "display"),
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
    def test_options_reach_the_files_of_the_python_models(
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

    def test_fingerprint_card_and_served_settings_name_the_same_image_rules(
        self, short_checkpoint: Path, tmp_path: Path
    ) -> None:
        """The fingerprint, the model card and the served settings name the same rules with the same values."""
        checkpoint = open_checkpoint(str(short_checkpoint))
        options = BuildOptions(image_rules="display", jpeg_decoding="scaled")
        rules = pixel_rules(checkpoint, options).pixel_rules()
        assert (rules["image_rules"], rules["jpeg_decoding"]) == ("display", "scaled")

        space = embedding_space(checkpoint, options).rules()
        card = model_card(checkpoint, options, vision_encoder(checkpoint, "fp32"), text_encoder(checkpoint, "fp32"))
        write_python_models(tmp_path, checkpoint, options)
        served = json.loads((tmp_path / "image_preprocessing" / "1" / "preprocessing.json").read_text(encoding="utf-8"))
        assert served == rules
        assert space == space | rules
        assert card.to_parameters() == card.to_parameters() | {name: str(value) for name, value in rules.items()}


def fingerprint(folder: Path, options: BuildOptions | None = None) -> str:
    """Return the fingerprint that the repository of a checkpoint gets with these options."""
    checkpoint, options = open_checkpoint(str(folder)), options or BuildOptions()
    encoders = vision_encoder(checkpoint, options.precision), text_encoder(checkpoint, options.precision)
    return model_card(checkpoint, options, *encoders).fingerprint


class TestFingerprint:
    @pytest.fixture
    def copied(self, short_checkpoint: Path, tmp_path: Path) -> Path:
        return shutil.copytree(short_checkpoint, tmp_path / "copied")

    def test_path_and_batch_size_do_not_change_the_fingerprint(self, short_checkpoint: Path, copied: Path) -> None:
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
    def test_other_rules_change_the_fingerprint(self, short_checkpoint: Path, options: BuildOptions) -> None:
        assert fingerprint(short_checkpoint, options) != fingerprint(short_checkpoint)

    @pytest.mark.parametrize("name", ["text_projection.weight", "vision_model.post_layernorm.bias"])
    def test_one_changed_weight_changes_the_fingerprint(self, short_checkpoint: Path, copied: Path, name: str) -> None:
        weights = load_file(copied / "model.safetensors")
        weights[name].flatten()[0] += 1e-3
        save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
        assert fingerprint(copied) != fingerprint(short_checkpoint)

    @pytest.mark.parametrize("tower", ["vision_config", "text_config"])
    @pytest.mark.parametrize(
        ("setting", "value"), [("num_attention_heads", 1), ("hidden_act", "relu"), ("layer_norm_eps", 0.1)]
    )
    def test_settings_of_the_towers_change_the_fingerprint(
        self, short_checkpoint: Path, copied: Path, tower: str, setting: str, value: object
    ) -> None:
        config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
        config[tower][setting] = value
        (copied / "config.json").write_text(json.dumps(config), encoding="utf-8")
        assert fingerprint(copied) != fingerprint(short_checkpoint)

    def test_the_pooling_heads_of_a_resnet_are_part_of_its_arithmetic(self) -> None:
        pooling = _AttentionPooling(5, 8, 4, 8)
        assert arithmetic(torch.nn.Sequential(pooling)) == [{"num_attention_heads": 4}]

    def test_another_vocabulary_changes_the_fingerprint(self, short_checkpoint: Path, copied: Path) -> None:
        tokens = (copied / "vocab.txt").read_text(encoding="utf-8").split("\n")
        tokens[7], tokens[8] = tokens[8], tokens[7]
        (copied / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
        assert fingerprint(copied) != fingerprint(short_checkpoint)


class TestManifest:
    def test_a_complete_repository_passes(self, tmp_path: Path) -> None:
        repository = write_repository(tmp_path / "repository")
        (repository / "text_tokenization" / "1" / "__pycache__").mkdir()
        (repository / "text_tokenization" / "1" / "__pycache__" / "model.cpython-311.pyc").touch()
        Manifest.read(repository).check(repository)

    @pytest.mark.parametrize(
        ("name", "added"),
        [
            ("text_encoder/2/model.pt", "text_encoder/2"),
            ("vision_encoder/1/model.onnx", "vision_encoder/1/model.onnx"),
            ("other/config.pbtxt", "other"),
            (".hidden", ".hidden"),
        ],
    )
    def test_rejects_a_file_that_the_build_did_not_write(self, tmp_path: Path, name: str, added: str) -> None:
        repository = write_repository(tmp_path / "repository")
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).touch()
        with pytest.raises(DamagedRepositoryError, match=f"did not write: {added} was added"):
            Manifest.read(repository).check(repository)

    def test_rejects_a_link_to_a_version_folder(self, tmp_path: Path) -> None:
        repository = write_repository(tmp_path / "repository")
        (repository / "text_encoder" / "3").symlink_to(tmp_path)
        with pytest.raises(DamagedRepositoryError, match="text_encoder/3 was added"):
            Manifest.read(repository).check(repository)

    def test_reads_the_paths_of_a_build_on_windows(self, tmp_path: Path) -> None:
        repository = write_repository(tmp_path / "repository")
        manifest = Manifest.read(repository)
        replace(manifest, files={name.replace("/", "\\"): digest for name, digest in manifest.files.items()}).write(
            repository
        )
        assert Manifest.read(repository).files == manifest.files
        Manifest.read(repository).check(repository)

    def test_writes_paths_with_slashes_on_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Folder:
            def rglob(self, _: str) -> list[PureWindowsPath]:
                return [PureWindowsPath(r"C:\r\vision_encoder\1\model.pt")]

        monkeypatch.setattr(PureWindowsPath, "is_file", lambda _: True, raising=False)
        monkeypatch.setattr(PureWindowsPath, "relative_to", lambda *_: PureWindowsPath(r"vision_encoder\1\model.pt"))
        monkeypatch.setattr("tuwen_repository.checksums.sha256_of", lambda _: "0")
        assert file_hashes(cast(Path, Folder())) == {"vision_encoder/1/model.pt": "0"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"family": 1}'])
def test_a_broken_manifest_is_rejected(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(NotARepositoryError, match="is not the manifest of a build"):
        Manifest.read(tmp_path)


def test_reads_a_manifest_of_a_build_that_named_no_gpu_variables(tmp_path: Path) -> None:
    path = write_repository(tmp_path) / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["gpu_environment"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert Manifest.read(tmp_path).gpu_environment == {}

"""Weights in the forms that training programs save. For unusable weights, such as NaN, the error names a remedy."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.reference.native_names import native_names
from tuwen_build.checkpoints import Checkpoint, ReadOptions, _source, open_checkpoint
from tuwen_build.checkpoints._numbers import exponential_of
from tuwen_build.errors import CheckpointError

HEADS = ReadOptions(heads=(4, 4))  # needed because the width of the checkpoint is not a published one
Weights = dict[str, Tensor]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 753000000\n"


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """Return a copy of the small checkpoint in the layout of Hugging Face."""
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def native(checkpoint: Path) -> Weights:
    """Return the weights of the small checkpoint under their names in native checkpoints."""
    return {
        name: tensor.contiguous() for name, tensor in native_names(load_file(checkpoint / "model.safetensors")).items()
    }


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def compiled_inside(weights: Weights) -> Weights:
    """Return the weights under the names that ``model.visual = torch.compile(model.visual)`` gives them."""
    return {name.replace("visual.", "visual._orig_mod.", 1): tensor for name, tensor in weights.items()}


def rewrite(folder: Path, edit: Callable[[Weights], Weights]) -> None:
    path = folder / "model.safetensors"
    save_file(edit(load_file(path)), path, metadata={"format": "pt"})


def assert_same(got: Checkpoint, expected: Checkpoint) -> None:
    for ours, theirs in ((got.vision, expected.vision), (got.text, expected.text)):
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name
    assert got.logit_scale == expected.logit_scale


WRAPPED: dict[str, Callable[[Weights], Any]] = {
    "tutorials of torch": lambda weights: {"epoch": 1, "model_state_dict": weights, "optimizer_state_dict": {}},
    "timm": lambda weights: {"model": weights, "optimizer": {"state": {}}, "args": {"lr": 0.1}},
    "DeepSpeed": lambda weights: {"module": weights, "dp_world_size": 1},
    "containers in one another": lambda weights: {"model": {"state_dict": weights}},
    "torch.compile": lambda weights: prefixed("_orig_mod.", weights),
    "torch.compile in DistributedDataParallel": lambda weights: prefixed("module._orig_mod.", weights),
    "DistributedDataParallel in torch.compile": lambda weights: prefixed("_orig_mod.module.", weights),
    "torch.compile of a tower": compiled_inside,
    "FSDP": lambda weights: {"model": prefixed("_fsdp_wrapped_module.", weights)},
    "Lightning": lambda weights: {
        "state_dict": prefixed("model.", weights),
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": 0.1},
    },
    "Lightning with another attribute": lambda weights: {"state_dict": prefixed("student_net.", weights)},
    "Lightning and torch.compile": lambda weights: {"state_dict": prefixed("model._orig_mod.", weights)},
}


class TestNative:
    @pytest.mark.parametrize("wrapper", WRAPPED)
    def test_a_wrapped_model_is_read(self, checkpoint: Path, native: Weights, tmp_path: Path, wrapper: str) -> None:
        torch.save(WRAPPED[wrapper](dict(native)), tmp_path / "last.pt")
        assert_same(open_checkpoint(str(tmp_path / "last.pt"), HEADS), open_checkpoint(str(checkpoint)))

    @pytest.mark.parametrize(
        ("wrap", "message"),
        [
            (
                lambda w: {"state_dict": w, "model": w},
                "weights in 'state_dict' and in 'model'; expected weights under one key",
            ),
            (lambda w: {"net": w, "ema": w}, "no state dict: .*; the file holds tensors in 'net', 'ema': save only"),
            (
                lambda w: {**prefixed("model.", w), "criterion.weight": torch.ones(2)},
                "tensors outside the first model, such as criterion.weight",
            ),
            (
                lambda w: {**prefixed("student.", w), **prefixed("teacher.", w)},
                r"CLIP models under 'student\.' and 'teacher\.', and \d+ tensors outside the first model",
            ),
            (
                lambda w: {**w, "visual._orig_mod.conv1.weight": w["visual.conv1.weight"]},
                "some tensors twice, with and without a wrapper's prefix",
            ),
            (
                lambda w: {**w, "visual.transformer.resblocks.0.attn.lora_A.weight": torch.ones(2)},
                r"weights of a LoRA adapter: .*lora_A\.weight.*merge_and_unload",
            ),
        ],
    )
    def test_ambiguous_weights_are_refused_with_their_names(
        self, native: Weights, tmp_path: Path, wrap: Callable[[Weights], Any], message: str
    ) -> None:
        torch.save(wrap(dict(native)), tmp_path / "last.pt")
        with pytest.raises(CheckpointError, match=rf"last\.pt .*{message}"):
            open_checkpoint(str(tmp_path / "last.pt"), HEADS)

    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("name", ["visual.proj", "bert.encoder.layer.1.output.dense.bias", "logit_scale"])
    def test_nan_and_infinite_weights_are_refused(
        self, native: Weights, tmp_path: Path, name: str, number: float
    ) -> None:
        broken = native[name].clone()
        broken.view(-1)[0] = number
        torch.save({**native, name: broken}, tmp_path / "last.pt")
        with pytest.raises(CheckpointError, match=rf"last\.pt: {name} holds 1 of \d+ numbers that are NaN or infinite"):
            open_checkpoint(str(tmp_path / "last.pt"), HEADS)

    def test_a_logit_scale_beyond_float32_is_refused(self, native: Weights, tmp_path: Path) -> None:
        torch.save({**native, "logit_scale": torch.tensor(800.0)}, tmp_path / "last.pt")
        with pytest.raises(CheckpointError, match=r"logit_scale is 800, whose exponential is too large for float32"):
            open_checkpoint(str(tmp_path / "last.pt"), HEADS)

    def test_the_error_says_that_a_file_is_a_git_lfs_pointer(self, tmp_path: Path) -> None:
        (tmp_path / "clip_cn_vit-b-16.pt").write_bytes(POINTER)
        with pytest.raises(CheckpointError, match=r"b-16\.pt is a Git LFS pointer.*run 'git lfs pull' in "):
            open_checkpoint(str(tmp_path))


class TestHuggingFace:
    @pytest.mark.parametrize(
        "prefix",
        ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "model.", "student.", "ema_model.module."],
    )
    @pytest.mark.parametrize("pickled", [False, True])
    def test_a_wrapped_model_is_read(self, folder: Path, checkpoint: Path, prefix: str, pickled: bool) -> None:
        rewrite(folder, lambda weights: prefixed(prefix, weights))
        if pickled:
            weights = load_file(folder / "model.safetensors")
            (folder / "model.safetensors").unlink()
            torch.save({"state_dict": weights}, folder / "pytorch_model.bin")
        assert_same(open_checkpoint(str(folder)), open_checkpoint(str(checkpoint)))

    @pytest.mark.parametrize(
        ("wrap", "message"),
        [
            (
                lambda w: {
                    **prefixed("student.", w),
                    **prefixed("teacher.", {name: tensor.clone() for name, tensor in w.items()}),
                },
                r"CLIP models under 'student\.' and 'teacher\.'",
            ),
            (
                lambda w: {**prefixed("student.", w), "loss.weight": torch.ones(2)},
                "1 tensors outside the first model, such as loss",
            ),
        ],
    )
    def test_ambiguous_weights_are_refused_with_their_names(
        self, folder: Path, wrap: Callable[[Weights], Weights], message: str
    ) -> None:
        rewrite(folder, wrap)
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(str(folder))

    def test_only_regular_files_hold_weights(self, folder: Path, checkpoint: Path) -> None:
        os.mkfifo(folder / "extra.safetensors")
        assert_same(open_checkpoint(str(folder)), open_checkpoint(str(checkpoint)))

    def test_the_names_of_norms_in_old_pickles_are_read(self, folder: Path, checkpoint: Path) -> None:
        weights = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in load_file(folder / "model.safetensors").items()
        }
        (folder / "model.safetensors").unlink()
        torch.save(weights, folder / "pytorch_model.bin")
        assert_same(open_checkpoint(str(folder)), open_checkpoint(str(checkpoint)))

    @pytest.mark.parametrize("name", ["visual_projection.weight", "logit_scale"])
    def test_nan_and_infinite_weights_are_refused(self, folder: Path, name: str) -> None:
        rewrite(folder, lambda weights: {**weights, name: weights[name] * math.nan})
        with pytest.raises(CheckpointError, match=rf"{name} holds \d+ of \d+ numbers that are NaN or infinite"):
            open_checkpoint(str(folder))

    @pytest.mark.parametrize(
        ("section", "key", "value"),
        [
            ("text_config", "chunk_size_feed_forward", 3),
            ("text_config", "return_dict", False),
            ("vision_config", "return_dict", False),
            (None, "return_dict", False),
        ],
    )
    def test_settings_that_cannot_be_exported_are_refused_by_name(
        self, folder: Path, section: str | None, key: str, value: object
    ) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        (config[section] if section else config)[key] = value
        path.write_text(json.dumps(config), encoding="utf-8")
        place = f"{section}.{key}" if section else key
        with pytest.raises(CheckpointError, match=rf"config\.json says {place} {json.dumps(value)}; expected"):
            open_checkpoint(str(folder))

    @pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "vocab.txt", "config.json"])
    def test_the_error_says_that_a_file_is_a_git_lfs_pointer(self, folder: Path, file: str) -> None:
        if file == "pytorch_model.bin":
            (folder / "model.safetensors").unlink()
        (folder / file).write_bytes(POINTER)
        with pytest.raises(CheckpointError, match=rf"{file} is a Git LFS pointer.*run 'git lfs pull' in {folder}"):
            open_checkpoint(str(folder))


class TestSentenceTransformers:
    def modules(self, root: Path, *modules: tuple[str, str]) -> Path:
        entries = [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (kind, path) in enumerate(modules)
        ]
        (root / "modules.json").write_text(json.dumps(entries))
        return root

    @pytest.mark.parametrize("listed", [True, False])
    def test_the_folder_of_the_model_is_found(self, checkpoint: Path, tmp_path: Path, listed: bool) -> None:
        shutil.copytree(checkpoint, tmp_path / "0_CLIPModel")
        if listed:
            self.modules(tmp_path, ("CLIPModel", "0_CLIPModel"), ("Normalize", "1_Normalize"))
        assert_same(open_checkpoint(str(tmp_path)), open_checkpoint(str(checkpoint)))

    def test_a_model_in_the_top_folder_is_read(self, folder: Path, checkpoint: Path) -> None:
        self.modules(folder, ("CLIPModel", ""))
        assert_same(open_checkpoint(str(folder)), open_checkpoint(str(checkpoint)))

    def test_modules_that_change_vectors_are_named(self, checkpoint: Path, tmp_path: Path) -> None:
        shutil.copytree(checkpoint, tmp_path / "0_CLIPModel")
        self.modules(tmp_path, ("CLIPModel", "0_CLIPModel"), ("Dense", "1_Dense"))
        with pytest.raises(CheckpointError, match=r"modules\.json lists the modules CLIPModel, Dense; supported: CLIP"):
            open_checkpoint(str(tmp_path))

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        self.modules(tmp_path, ("CLIPModel", "0_CLIPModel"))
        with pytest.raises(CheckpointError, match="names the folder 0_CLIPModel, which is missing"):
            open_checkpoint(str(tmp_path))

    def test_a_broken_list_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "modules.json").write_text('{"type": 1}')
        with pytest.raises(CheckpointError, match=r"modules\.json is not a list of modules"):
            open_checkpoint(str(tmp_path))

    def test_the_folder_of_the_model_is_fetched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ["modules.json", "0_CLIPModel/config.json", "0_CLIPModel/model.safetensors", "onnx/model.safetensors"]
        asked: list[list[str]] = []

        def fetch(_: str, allow_patterns: list[str]) -> str:
            asked.append(allow_patterns)
            return str(tmp_path)

        monkeypatch.setattr(_source, "hub_files", lambda _: names)
        monkeypatch.setattr(_source, "snapshot_download", fetch)
        _source.locate("sentence-transformers/clip-ViT-B-32")
        assert asked == [["*.json", "*.txt", "*.safetensors", "*CLIPModel/*.safetensors"]]


class TestAdapters:
    ADAPTER = json.dumps({"base_model_name_or_path": "OFA-Sys/chinese-clip-vit-base-patch16", "peft_type": "LORA"})

    def test_an_adapter_alone_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text(self.ADAPTER)
        (tmp_path / "adapter_model.safetensors").touch()
        with pytest.raises(CheckpointError, match=r"LoRA adapter.*merge_and_unload\(\).*OFA-Sys/chinese-clip-vit-base"):
            open_checkpoint(str(tmp_path))

    def test_an_adapter_beside_its_base_is_refused_with_the_remedy(self, folder: Path) -> None:
        (folder / "adapter_config.json").write_text(self.ADAPTER)
        with pytest.raises(CheckpointError, match=r"LoRA adapter.*merge_and_unload\(\)"):
            open_checkpoint(str(folder))

    def test_adapters_among_the_weights_are_refused(self, folder: Path) -> None:
        name = "text_model.encoder.layer.0.attention.self.query.lora_A.default.weight"
        rewrite(folder, lambda weights: {**weights, name: torch.ones(8, 96)})
        with pytest.raises(CheckpointError, match=rf"weights of a LoRA adapter: {name}.*merge_and_unload"):
            open_checkpoint(str(folder))


@pytest.mark.parametrize("weight", [torch.tensor(89.0), torch.tensor(math.nan), torch.tensor(-math.inf), torch.ones(2)])
def test_a_logit_scale_without_a_float32_exponential_is_refused(weight: Tensor) -> None:
    with pytest.raises(CheckpointError, match=r"model\.pt: logit_scale"):
        exponential_of(weight, "model.pt")


def test_the_released_logit_scale_is_a_hundred() -> None:
    assert exponential_of(torch.tensor(4.6052), "model.pt") == pytest.approx(100.0032, abs=1e-3)

"""Builds of LoRA adapters: with ``--merge-adapter``, the weights equal the result of peft's own merge."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertForSequenceClassification, BertModel, ChineseCLIPModel, CLIPModel

from tests.support.artefacts import Artefacts
from tests.support.checkpoints import TextSizes, write_taiyi
from tests.support.repositories import minimal_clip, write_short_clip_vocabulary
from tuwen import MissingExtraError
from tuwen_build.checkpoints import Checkpoint, ReadOptions, open_checkpoint
from tuwen_build.errors import CheckpointError

# peft uses old names of some settings of transformers.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

MERGE = ReadOptions(merge_adapter=True)
# The names of the linear layers of attention in all families.
TARGETS = ["q_proj", "v_proj", "query", "value"]


def save_adapter(model_class: Any, base: Path, folder: Path, **options: Any) -> None:
    """Save a LoRA adapter with random weights for a base model, in the form that fine-tuning with peft saves."""
    model = model_class.from_pretrained(base, local_files_only=True)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, **options))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    adapted.save_pretrained(folder)
    settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == str(base)


def state(checkpoint: Checkpoint) -> dict[str, Tensor]:
    towers = (("vision", checkpoint.vision), ("text", checkpoint.text))
    return {f"{name}.{key}": value for name, tower in towers for key, value in tower.state_dict().items()}


@pytest.fixture(scope="module")
def bases(artefacts: Artefacts, short_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a base model of every family that transformers loads, each in a subfolder of its name."""
    folder = tmp_path_factory.mktemp("bases")
    shutil.copytree(short_checkpoint, folder / "chinese-clip")
    shutil.copytree(
        minimal_clip(artefacts, write_short_clip_vocabulary(folder / "vocabulary"), dimension=32), folder / "clip"
    )
    write_taiyi(folder / "taiyi", TextSizes(32, 2, 2))
    write_taiyi(folder / "sibling", TextSizes(32, 2, 2), 32)
    return folder


FAMILIES: dict[str, Any] = {
    "chinese-clip": ChineseCLIPModel,
    "clip": CLIPModel,
    "taiyi": BertModel,
    "sibling": BertForSequenceClassification,
}


def options_of(family: str, bases: Path, *, merge: bool) -> ReadOptions:
    vision = str(bases / "clip") if family in ("taiyi", "sibling") else None
    return ReadOptions(vision=vision, merge_adapter=merge)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("place", ["alone", "beside its base"])
def test_an_adapter_is_merged_as_peft_merges_it(bases: Path, family: str, place: str, tmp_path: Path) -> None:
    base, adapter = bases / family, tmp_path / "adapter"
    if place == "beside its base":
        shutil.copytree(base, adapter)
    save_adapter(FAMILIES[family], base, adapter)
    own = FAMILIES[family].from_pretrained(base, local_files_only=True)
    expected_folder = shutil.copytree(base, tmp_path / "expected")
    peft.PeftModel.from_pretrained(own, str(adapter)).merge_and_unload().save_pretrained(expected_folder)

    merged = open_checkpoint(str(adapter), options_of(family, bases, merge=True))
    expected = state(open_checkpoint(str(expected_folder), options_of(family, bases, merge=False)))
    plain = state(open_checkpoint(str(base), options_of(family, bases, merge=False)))
    got = state(merged)
    assert got.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(got[name], weight, rtol=0, atol=1e-6)
    assert any(not torch.equal(got[name], weight) for name, weight in plain.items())
    assert merged.origin.source.startswith(str(adapter))
    assert merged.origin.layout.endswith("with its adapter merged")
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"} <= merged.origin.files.keys()
    assert all(path.is_file() for path in merged.origin.files.values())


@pytest.fixture
def adapter(bases: Path, tmp_path: Path) -> Path:
    save_adapter(ChineseCLIPModel, bases / "chinese-clip", tmp_path / "adapter")
    return tmp_path / "adapter"


def test_without_the_option_an_adapter_is_refused_and_the_option_is_named(adapter: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds a LoRA adapter.*--merge-adapter.*tuwen\[peft\]"):
        open_checkpoint(str(adapter))


def test_preprocessor_files_beside_the_adapter_come_first(bases: Path, adapter: Path) -> None:
    config = json.loads((bases / "chinese-clip" / "config.json").read_text(encoding="utf-8"))
    side = config["vision_config"]["image_size"]
    settings = {"size": {"height": side, "width": side}, "do_center_crop": False, "image_mean": [0.5, 0.5, 0.5]}
    (adapter / "preprocessor_config.json").write_text(json.dumps(settings))
    assert open_checkpoint(str(adapter), MERGE).preprocessing.mean == (0.5, 0.5, 0.5)


def test_a_base_is_found_by_a_path_relative_to_the_adapter(bases: Path, adapter: Path) -> None:
    shutil.copytree(bases / "chinese-clip", adapter.parent / "base")
    change(adapter, base_model_name_or_path="../base")
    assert open_checkpoint(str(adapter), MERGE).family == "chinese-clip"


def change(adapter: Path, **values: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def rename(adapter: Path, old: str, new: str) -> None:
    path = adapter / "adapter_model.safetensors"
    save_file({name.replace(old, new): weight for name, weight in load_file(path).items()}, path)


class TestRefusals:
    def refusal(self, folder: Path) -> str:
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(str(folder), MERGE)
        return str(caught.value)

    def test_a_checkpoint_without_an_adapter_is_refused(self, short_checkpoint: Path) -> None:
        assert "holds no adapter to merge: adapter_config.json is missing" in self.refusal(short_checkpoint)

    def test_missing_weights_are_named(self, adapter: Path) -> None:
        (adapter / "adapter_model.safetensors").unlink()
        assert "adapter_model.safetensors is missing" in self.refusal(adapter)

    def test_a_missing_base_is_named(self, adapter: Path) -> None:
        change(adapter, base_model_name_or_path="/nowhere/base model")
        assert "cannot open /nowhere/base model, the base model of the adapter in " in self.refusal(adapter)
        change(adapter, base_model_name_or_path=None)
        assert "does not name a base model (base_model_name_or_path)" in self.refusal(adapter)

    def test_weights_for_another_model_are_named(self, adapter: Path) -> None:
        rename(adapter, "vision_model.encoder.layers.0", "vision_model.encoder.layers.9")
        message = self.refusal(adapter)
        assert "the adapter does not fit its base model: the adapter lacks " in message
        assert "vision_model.encoder.layers.0.self_attn" in message

    def test_weights_of_another_shape_are_refused(self, bases: Path, adapter: Path) -> None:
        change(adapter, r=3)
        assert "cannot load the adapter" in self.refusal(adapter)

    def test_weights_that_are_nan_are_refused(self, adapter: Path) -> None:
        path = adapter / "adapter_model.safetensors"
        save_file({name: weight * float("nan") for name, weight in load_file(path).items()}, path)
        assert "cannot merge the adapter" in self.refusal(adapter)

    def test_a_base_of_another_family_is_refused(self, adapter: Path, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "config.json").write_text('{"model_type": "siglip"}')
        change(adapter, base_model_name_or_path=str(tmp_path / "other"))
        assert 'model_type "siglip"; expected chinese_clip, clip or bert' in self.refusal(adapter)


def test_without_peft_the_error_names_the_extra(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"merging an adapter needs an extra .*pip install 'tuwen\[peft\]'"):
        open_checkpoint(str(adapter), MERGE)

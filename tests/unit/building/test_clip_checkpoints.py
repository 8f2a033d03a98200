"""OpenAI CLIP and Taiyi-CLIP checkpoints: read, or refused with a reason or a question."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.checkpoints import TextSizes, VisionSizes, write_openai_clip, write_taiyi
from tuwen import BuildError
from tuwen_build.checkpoints import ReadOptions, open_checkpoint
from tuwen_build.errors import CheckpointError, VerificationError
from tuwen_build.explain import explain
from tuwen_build.repository import BuildOptions, build_repository

SMALL = TextSizes(96, 3, 4)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    write_openai_clip(folder / "clip", VisionSizes(96, 3, 4, 16, 64), SMALL, 96)
    write_openai_clip(folder / "narrow", VisionSizes(96, 3, 4, 16, 64), SMALL, 64)
    write_taiyi(folder / "taiyi", SMALL)
    write_taiyi(folder / "sibling", SMALL, 64)
    return folder


@pytest.fixture
def clip(originals: Path, tmp_path: Path) -> Path:
    return shutil.copytree(originals / "clip", tmp_path / "clip")


@pytest.fixture
def taiyi(originals: Path, tmp_path: Path) -> Path:
    return shutil.copytree(originals / "taiyi", tmp_path / "taiyi")


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")


class TestOpenAi:
    def test_its_rules_are_its_own(self, clip: Path) -> None:
        checkpoint = open_checkpoint(str(clip))
        assert checkpoint.family == "openai-clip"
        assert checkpoint.preprocessing.resize == "crop"
        assert checkpoint.tokenization.default_context_length == 77
        assert checkpoint.tokenization.max_context_length == 77

    def test_a_context_length_beyond_its_positions(self, clip: Path, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="78 is more than the checkpoint's 77 positions"):
            build_repository(str(clip), tmp_path / "out", BuildOptions(context_length=78))

    @pytest.mark.parametrize("eos_token_id", [2, 49407])
    def test_either_end_of_text_in_config_json_builds(self, clip: Path, tmp_path: Path, eos_token_id: int) -> None:
        """OpenAI's own releases say 2, by mistake; transformers pools at the highest id for them."""
        config = json.loads((clip / "config.json").read_text(encoding="utf-8"))
        config["text_config"]["eos_token_id"] = eos_token_id
        (clip / "config.json").write_text(json.dumps(config), encoding="utf-8")
        assert build_repository(str(clip), tmp_path / "out").text_deviation.max_abs < 1e-5

    @pytest.mark.parametrize("file", ["vocab.json", "merges.txt"])
    def test_a_missing_file(self, clip: Path, file: str) -> None:
        (clip / file).unlink()
        with pytest.raises(CheckpointError, match=f"{file} is missing"):
            open_checkpoint(str(clip))

    def test_a_vocabulary_of_another_model(self, clip: Path) -> None:
        change(clip / "vocab.json", **{"no such token": 49408})
        with pytest.raises(CheckpointError, match="has 49409 tokens, config.json says vocab_size 49408"):
            open_checkpoint(str(clip))

    def test_preprocessing_of_another_family(self, clip: Path) -> None:
        (clip / "preprocessor_config.json").write_text(json.dumps({"do_center_crop": False, "size": 64}))
        with pytest.raises(CheckpointError, match="do_center_crop false; this family crops the centre"):
            open_checkpoint(str(clip))
        (clip / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 64}, "crop_size": 32}))
        with pytest.raises(CheckpointError, match="crop_size is 32 pixels"):
            open_checkpoint(str(clip))

    def test_merges_of_another_vocabulary_are_noticed(self, clip: Path, tmp_path: Path) -> None:
        path = clip / "merges.txt"
        lines = path.read_text(encoding="utf-8").split("\n")
        lines[1:2000] = reversed(lines[1:2000])
        path.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(VerificationError, match="tokenizer differs from open_clip's"):
            build_repository(str(clip), tmp_path / "out")

    def test_only_chinese_clip_has_evaluation_rules(self, clip: Path, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="text rules of openai-clip are reference, not evaluation"):
            build_repository(str(clip), tmp_path / "out", BuildOptions(text_rules="evaluation"))


class TestTaiyi:
    def test_without_an_image_tower_it_asks(self, taiyi: Path) -> None:
        with pytest.raises(CheckpointError, match=r"Which CLIP has the image tower .*\? Name its hub id .* --vision"):
            open_checkpoint(str(taiyi))

    def test_the_image_tower_and_logit_scale_are_clips(self, taiyi: Path, clip: Path) -> None:
        weights = load_file(clip / "model.safetensors")
        weights["logit_scale"] = torch.tensor(4.6052)
        save_file(weights, clip / "model.safetensors", metadata={"format": "pt"})
        checkpoint = open_checkpoint(str(taiyi), ReadOptions(vision=str(clip)))
        image = open_checkpoint(str(clip))
        assert checkpoint.logit_scale == image.logit_scale == pytest.approx(100.0032, abs=1e-3)
        assert checkpoint.preprocessing == image.preprocessing
        for name, tensor in image.vision.state_dict().items():
            assert torch.equal(checkpoint.vision.state_dict()[name], tensor)
        assert set(checkpoint.origin.files) >= {"model.safetensors", "vision/model.safetensors"}

    def test_towers_of_two_trainings(self, originals: Path) -> None:
        with pytest.raises(
            CheckpointError, match="gives 96 dimensions, the image tower of .* 64: they were not trained"
        ):
            open_checkpoint(str(originals / "taiyi"), ReadOptions(vision=str(originals / "narrow")))

    def test_an_image_tower_of_another_family(self, taiyi: Path, checkpoint: Path) -> None:
        with pytest.raises(CheckpointError, match="Taiyi's image tower comes from OpenAI's CLIP"):
            open_checkpoint(str(taiyi), ReadOptions(vision=str(checkpoint)))

    def test_a_sibling_is_known_by_its_classification_head(self, originals: Path) -> None:
        checkpoint = open_checkpoint(str(originals / "sibling"), ReadOptions(vision=str(originals / "narrow")))
        assert checkpoint.embedding_dimension == 64
        assert checkpoint.text_architecture.endswith("tanh pooler, projection to 64")

    def test_a_plain_language_model_is_not_taken_for_one(self, taiyi: Path, clip: Path) -> None:
        weights = load_file(taiyi / "model.safetensors")
        weights["cls.predictions.bias"] = torch.zeros(21128)
        save_file(weights, taiyi / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match="unexpected: cls.predictions.bias"):
            open_checkpoint(str(taiyi), ReadOptions(vision=str(clip)))

    def test_a_text_tower_without_its_pooler(self, taiyi: Path, clip: Path) -> None:
        weights = {name: t for name, t in load_file(taiyi / "model.safetensors").items() if "pooler" not in name}
        save_file(weights, taiyi / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"missing: pooler\.dense"):
            open_checkpoint(str(taiyi), ReadOptions(vision=str(clip)))

    def test_a_truncated_text_tower(self, taiyi: Path, clip: Path) -> None:
        path = taiyi / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(CheckpointError, match="is truncated, or no safetensors file"):
            open_checkpoint(str(taiyi), ReadOptions(vision=str(clip)))

    def test_case_matters_where_its_tokenizer_says_so(self, taiyi: Path, clip: Path) -> None:
        (taiyi / "tokenizer_config.json").write_text('{"do_lower_case": false}')
        checkpoint = open_checkpoint(str(taiyi), ReadOptions(vision=str(clip)))
        assert checkpoint.tokenization.settings == {"lowercase": False}


class TestExplanation:
    def test_it_says_what_was_recognised(self, originals: Path) -> None:
        options = ReadOptions(vision=str(originals / "clip"))
        explanation = explain(open_checkpoint(str(originals / "taiyi"), options))
        assert explanation.family == "taiyi-clip"
        assert explanation.vision.architecture == "ViT, patch 16, 96 wide, 3 layers, 4 heads, quick_gelu"
        assert explanation.text.architecture == "BERT, 96 wide, 3 layers, 4 heads, gelu, tanh pooler"
        assert explanation.preprocessing.startswith("resize the shortest edge to 64 pixels (bicubic), crop the centre")
        assert explanation.tokenizer == "WordPiece, as in transformers' BertTokenizer"
        assert (explanation.context_length, explanation.max_context_length) == (77, 512)
        assert explanation.text.bytes["fp32"] == 4 * explanation.text.parameters
        assert explanation.text.bytes["int8"] < explanation.text.bytes["fp32"]

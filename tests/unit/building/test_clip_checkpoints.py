"""The reading of OpenAI CLIP and Taiyi-CLIP checkpoints, and the messages about checkpoints that cannot be built."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.artefacts import Artefacts
from tests.support.checkpoints import TextSizes, write_taiyi
from tests.support.repositories import minimal_clip, write_short_clip_vocabulary
from tuwen_build.checkpoints import ReadOptions, open_checkpoint
from tuwen_build.errors import BuildError, CheckpointError
from tuwen_build.explanation import explain
from tuwen_build.export.assembly import check_options
from tuwen_build.export.encoders import text_encoder
from tuwen_build.options import BuildOptions

SMALL = TextSizes(32, 2, 2)


@pytest.fixture(scope="module")
def folders(artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with four checkpoints: CLIPs of 32 and 16 dimensions, and a Taiyi text tower for each."""
    folder = tmp_path_factory.mktemp("clip")
    vocabulary = write_short_clip_vocabulary(folder / "vocabulary")
    for name, dimension in (("clip", 32), ("narrow", 16)):
        shutil.copytree(minimal_clip(artefacts, vocabulary, dimension=dimension), folder / name)
    write_taiyi(folder / "taiyi", SMALL)
    write_taiyi(folder / "sibling", SMALL, 16)
    return folder


@pytest.fixture
def clip(folders: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folders / "clip", tmp_path / "clip")


@pytest.fixture
def taiyi(folders: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folders / "taiyi", tmp_path / "taiyi")


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")


class TestOpenAi:
    def test_clip_crops_images_and_reads_77_tokens(self, clip: Path) -> None:
        checkpoint = open_checkpoint(str(clip))
        assert checkpoint.family == "openai-clip"
        assert checkpoint.preprocessing.resize == "crop"
        assert checkpoint.tokenization.default_context_length == 77
        assert checkpoint.tokenization.max_context_length == 77

    def test_rejects_a_context_length_beyond_its_positions(self, clip: Path) -> None:
        with pytest.raises(BuildError, match="expected at most 77, .*; got 78"):
            check_options(open_checkpoint(str(clip)), BuildOptions(context_length=78))

    @pytest.mark.parametrize("says", ["2 by mistake", "the last token"])
    @torch.inference_mode()
    def test_the_end_of_text_id_in_config_json_does_not_change_vectors(self, clip: Path, says: str) -> None:
        """The vectors are right, whether `eos_token_id` in config.json is 2 or the id of the end-of-text token.

        OpenAI's own releases say 2 by mistake. If the value is 2, transformers pools at the token with the highest id.
        """
        config = json.loads((clip / "config.json").read_text(encoding="utf-8"))
        size = config["text_config"]["vocab_size"]
        config["text_config"]["eos_token_id"] = 2 if says == "2 by mistake" else size - 1
        (clip / "config.json").write_text(json.dumps(config), encoding="utf-8")
        checkpoint = open_checkpoint(str(clip))
        ids = torch.tensor([[size - 2, 98, 2, 99, size - 1, 0], [size - 2, 2, size - 1, 0, 0, 0]])
        mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]])
        expected = checkpoint.reference.embed_texts(ids, mask)
        vectors = text_encoder(checkpoint, "fp32")(ids, mask)
        assert (vectors - torch.nn.functional.normalize(expected)).abs().max() < 1e-5

    @pytest.mark.parametrize("file", ["vocab.json", "merges.txt"])
    def test_rejects_a_vocabulary_with_a_byte_order_mark(self, clip: Path, file: str) -> None:
        (clip / file).write_bytes(b"\xef\xbb\xbf" + (clip / file).read_bytes())
        with pytest.raises(CheckpointError, match=f"{file} begins with a byte order mark"):
            open_checkpoint(str(clip))

    @pytest.mark.parametrize("file", ["vocab.json", "merges.txt"])
    def test_rejects_a_folder_without_a_needed_file(self, clip: Path, file: str) -> None:
        (clip / file).unlink()
        with pytest.raises(CheckpointError, match=f"{file} is missing"):
            open_checkpoint(str(clip))

    def test_rejects_a_vocabulary_of_another_model(self, clip: Path) -> None:
        size = len(json.loads((clip / "vocab.json").read_text(encoding="utf-8")))
        change(clip / "vocab.json", **{"no such token": size})
        with pytest.raises(CheckpointError, match=f"expected {size} tokens, which is vocab_size in .*; got {size + 1}"):
            open_checkpoint(str(clip))

    def test_rejects_preprocessing_of_another_family(self, clip: Path) -> None:
        (clip / "preprocessor_config.json").write_text(json.dumps({"do_center_crop": False, "size": 32}))
        with pytest.raises(CheckpointError, match="do_center_crop false; this family crops the centre"):
            open_checkpoint(str(clip))
        (clip / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 32}, "crop_size": 16}))
        with pytest.raises(CheckpointError, match="expected crop_size 32, which is image_size in config.json; got 16"):
            open_checkpoint(str(clip))

    def test_only_chinese_clip_has_evaluation_rules(self, clip: Path) -> None:
        with pytest.raises(BuildError, match="text_rules: expected reference for openai-clip, got evaluation"):
            check_options(open_checkpoint(str(clip)), BuildOptions(text_rules="evaluation"))


class TestTaiyi:
    def test_without_an_image_tower_the_error_names_the_option(self, taiyi: Path) -> None:
        with pytest.raises(CheckpointError, match=r"Pass the OpenAI CLIP .* as a hub id .* --vision"):
            open_checkpoint(str(taiyi))

    def test_takes_image_tower_and_logit_scale_from_clip(self, taiyi: Path, clip: Path) -> None:
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

    def test_rejects_towers_with_different_dimensions(self, folders: Path) -> None:
        with pytest.raises(
            CheckpointError,
            match="expected an image tower with 32 dimensions, as .* has; .* has 16. Pass the OpenAI CLIP",
        ):
            open_checkpoint(str(folders / "taiyi"), ReadOptions(vision=str(folders / "narrow")))

    def test_rejects_an_image_tower_of_another_family(self, taiyi: Path, short_checkpoint: Path) -> None:
        with pytest.raises(CheckpointError, match="--vision: expected the OpenAI CLIP with which the Taiyi model was"):
            open_checkpoint(str(taiyi), ReadOptions(vision=str(short_checkpoint)))

    def test_recognises_a_projected_text_tower_by_its_classification_head(self, folders: Path) -> None:
        checkpoint = open_checkpoint(str(folders / "sibling"), ReadOptions(vision=str(folders / "narrow")))
        assert checkpoint.embedding_dimension == 16
        assert checkpoint.text_architecture.endswith("tanh pooler, projection to 16")

    def test_rejects_a_plain_language_model(self, taiyi: Path, clip: Path) -> None:
        weights = load_file(taiyi / "model.safetensors")
        weights["cls.predictions.bias"] = torch.zeros(21128)
        save_file(weights, taiyi / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match="unexpected: cls.predictions.bias"):
            open_checkpoint(str(taiyi), ReadOptions(vision=str(clip)))

    def test_rejects_a_text_tower_without_pooler(self, taiyi: Path, clip: Path) -> None:
        weights = {name: t for name, t in load_file(taiyi / "model.safetensors").items() if "pooler" not in name}
        save_file(weights, taiyi / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"missing: pooler\.dense"):
            open_checkpoint(str(taiyi), ReadOptions(vision=str(clip)))

    def test_rejects_a_truncated_text_tower(self, taiyi: Path, clip: Path) -> None:
        path = taiyi / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(CheckpointError, match="is truncated or not a safetensors file"):
            open_checkpoint(str(taiyi), ReadOptions(vision=str(clip)))

    def test_keeps_upper_case_if_the_tokenizer_of_the_checkpoint_does(self, taiyi: Path, clip: Path) -> None:
        (taiyi / "tokenizer_config.json").write_text('{"do_lower_case": false}')
        checkpoint = open_checkpoint(str(taiyi), ReadOptions(vision=str(clip)))
        assert checkpoint.tokenization.settings == {"lowercase": False}


class TestExplanation:
    def test_the_explanation_states_towers_preprocessing_and_tokenizer(self, folders: Path) -> None:
        options = ReadOptions(vision=str(folders / "clip"))
        explanation = explain(open_checkpoint(str(folders / "taiyi"), options))
        assert explanation.family == "taiyi-clip"
        assert explanation.vision.architecture == "ViT, patch 16, 32 wide, 2 layers, 2 heads, quick_gelu"
        assert explanation.text.architecture == "BERT, 32 wide, 2 layers, 2 heads, gelu, tanh pooler"
        assert explanation.preprocessing.startswith("resize the shortest edge to 32 pixels (bicubic), crop the centre")
        assert explanation.tokenizer == "WordPiece, as in transformers' BertTokenizer"
        assert (explanation.context_length, explanation.max_context_length) == (77, 512)
        assert explanation.text.bytes["fp32"] == 4 * explanation.text.parameters
        assert explanation.text.bytes["int8"] < explanation.text.bytes["fp32"]

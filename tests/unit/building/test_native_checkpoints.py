"""Native Chinese-CLIP and ModelScope checkpoints in all their variants: read alike, or refused with a reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.reference.native_names import native_names
from tests.support.checkpoints import ROOT
from tests.support.pickles import Bomb
from tuwen_build.checkpoints import Checkpoint, ReadOptions, open_checkpoint
from tuwen_build.errors import CheckpointError
from tuwen_build.manifest import Manifest
from tuwen_build.repository import build_repository
from tuwen_build.samples import vocabulary

HEADS = ReadOptions(heads=(4, 4))  # the small checkpoint has no published width
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights(checkpoint: Path) -> Weights:
    """The small checkpoint under its native names."""
    return {
        name: tensor.contiguous() for name, tensor in native_names(load_file(checkpoint / "model.safetensors")).items()
    }


def with_flash_attention(weights: Weights) -> Weights:
    """As cn_clip's convert_state_dict renames and joins them for training with FlashAttention."""
    result = {name.replace(".attn.in_proj_", ".attn.Wqkv."): tensor for name, tensor in weights.items()}
    for layer in range(3):
        attention = f"bert.encoder.layer.{layer}.attention"
        for kind in ("weight", "bias"):
            parts = [result.pop(f"{attention}.self.{part}.{kind}") for part in ("query", "key", "value")]
            result[f"{attention}.self.Wqkv.{kind}"] = torch.cat(parts)
            result[f"{attention}.self.out_proj.{kind}"] = result.pop(f"{attention}.output.dense.{kind}")
    return result


def with_pooler(weights: Weights) -> Weights:
    return {
        **weights,
        "bert.pooler.dense.weight": torch.ones(96, 96),
        "bert.pooler.dense.bias": torch.ones(96),
        "bert.embeddings.position_ids": torch.arange(512)[None],
    }


def prefixed(prefix: str) -> Callable[[Weights], Any]:
    return lambda weights: {"state_dict": {prefix + name: tensor for name, tensor in weights.items()}}


VARIANTS: dict[str, Callable[[Weights], Any]] = {
    "module prefix, as released": lambda weights: {"epoch": 1, "step": 2, "name": "x", **prefixed("module.")(weights)},
    "no prefix": prefixed(""),
    "bare": lambda weights: weights,
    "fine-tuned on ModelScope": prefixed("module.clip_model."),
    "pooler": lambda weights: {"state_dict": with_pooler(weights)},
    "pooler under a prefix": lambda weights: prefixed("module.")(with_pooler(weights)),
    "FlashAttention": lambda weights: {"state_dict": with_flash_attention(weights)},
    "FlashAttention under a prefix": lambda weights: prefixed("module.")(with_flash_attention(weights)),
    "optimizer": lambda weights: {"state_dict": weights, "optimizer": {"state": {0: {"step": 1}}}},
}


def assert_same_towers(got: Checkpoint, expected: Checkpoint) -> None:
    for ours, theirs in ((got.vision, expected.vision), (got.text, expected.text)):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for name, tensor in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=0, atol=0)


class TestNative:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_every_variant_is_the_same_model(
        self, checkpoint: Path, weights: Weights, tmp_path: Path, variant: str
    ) -> None:
        file = tmp_path / "clip_cn_small.pt"
        torch.save(VARIANTS[variant](dict(weights)), file)
        for source in (file, tmp_path):  # RN50's repository on the hub is a folder with nothing else
            got = open_checkpoint(str(source), HEADS)
            assert_same_towers(got, open_checkpoint(str(checkpoint)))
            assert got.family == "chinese-clip"
            assert got.tokenization.default_context_length == 52

    def test_it_is_the_same_space_in_either_layout(self, repository: Path, weights: Weights, tmp_path: Path) -> None:
        torch.save({"state_dict": weights}, tmp_path / "small.pt")
        manifest = build_repository(str(tmp_path / "small.pt"), tmp_path / "out", read_options=HEADS)
        assert manifest.fingerprint == Manifest.read(repository).fingerprint

    def test_half_precision_files_are_read_in_float32(self, weights: Weights, tmp_path: Path) -> None:
        torch.save({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "half.pt")
        loaded = open_checkpoint(str(tmp_path / "half.pt"), HEADS)
        assert {parameter.dtype for parameter in loaded.vision.parameters()} == {torch.float32}

    def test_the_logit_scale_keeps_its_precision(self, weights: Weights, tmp_path: Path) -> None:
        """In float16, 4.6052 is 4.6055 and its exponential 100.03."""
        torch.save({**weights, "logit_scale": torch.tensor(4.6052)}, tmp_path / "released.pt")
        assert open_checkpoint(str(tmp_path / "released.pt"), HEADS).logit_scale == pytest.approx(100.0032, abs=1e-3)

    def test_a_file_in_a_folder_of_hugging_face(self, checkpoint: Path, weights: Weights, tmp_path: Path) -> None:
        """OFA-Sys's repositories hold both layouts; the folder is read as one, the file as the other."""
        folder = shutil.copytree(checkpoint, tmp_path / "both")
        torch.save({"state_dict": weights}, folder / "clip_cn_small.pt")
        assert open_checkpoint(str(folder)).origin.layout == "Hugging Face layout"
        assert open_checkpoint(str(folder / "clip_cn_small.pt"), HEADS).origin.layout == "native layout"

    def test_a_vocabulary_beside_the_file_is_used(self, weights: Weights, tmp_path: Path) -> None:
        torch.save(weights, tmp_path / "small.pt")
        lines = vocabulary().read_text(encoding="utf-8").split("\n")
        lines[200], lines[201] = lines[201], lines[200]
        (tmp_path / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
        loaded = open_checkpoint(str(tmp_path / "small.pt"), HEADS)
        assert loaded.tokenization.files["vocab.txt"] == tmp_path / "vocab.txt"


class TestRefusals:
    def refused(self, content: Any, tmp_path: Path, options: ReadOptions = HEADS) -> str:
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(str(tmp_path / "bad.pt"), options)
        assert "bad.pt" in str(caught.value)
        return str(caught.value)

    def test_heads_that_nothing_tells(self, weights: Weights, tmp_path: Path) -> None:
        message = self.refused(weights, tmp_path, ReadOptions())
        assert "how many attention heads has the image tower?" in message
        assert "Say it with --heads IMAGE,TEXT" in message

    def test_a_missing_tensor(self, weights: Weights, tmp_path: Path) -> None:
        partial = {name: tensor for name, tensor in weights.items() if "layer.1.output" not in name}
        assert "missing weights: text_model.encoder.layer.1.output" in self.refused(partial, tmp_path)

    def test_a_tensor_too_many(self, weights: Weights, tmp_path: Path) -> None:
        assert "unexpected weights: extra.weight" in self.refused({**weights, "extra.weight": torch.ones(2)}, tmp_path)

    def test_tensors_of_two_models(self, weights: Weights, tmp_path: Path) -> None:
        mixed = {**weights, "text_projection": torch.ones(96, 32)}
        assert "do not fit together" in self.refused(mixed, tmp_path)

    def test_a_model_of_another_family(self, tmp_path: Path) -> None:
        message = self.refused(nn.Linear(2, 2).state_dict(), tmp_path)
        assert "no native Chinese-CLIP checkpoint: it lacks visual.conv1.weight; it holds bias, weight" in message

    def test_position_embeddings_of_no_square(self, weights: Weights, tmp_path: Path) -> None:
        odd = {**weights, "visual.positional_embedding": torch.ones(16, 96)}
        assert "16 position embeddings are no square grid" in self.refused(odd, tmp_path)

    @pytest.mark.parametrize("content", [{}, [1, 2], {"state_dict": {}}, {"epoch": 3}])
    def test_no_weights_at_all(self, tmp_path: Path, content: Any) -> None:
        assert "holds no state dict" in self.refused(content, tmp_path)

    def test_a_pickle_that_would_run_code_is_not_loaded(self, weights: Weights, tmp_path: Path) -> None:
        message = self.refused({**weights, "bomb": Bomb(tmp_path / "exploded")}, tmp_path)
        assert "bad.pt is not a file of weights alone, and is not loaded: it names getattr to be run" in message
        assert not (tmp_path / "exploded").exists()

    def test_a_truncated_file(self, weights: Weights, tmp_path: Path) -> None:
        torch.save(weights, tmp_path / "bad.pt")
        data = (tmp_path / "bad.pt").read_bytes()
        for size in (0, 100, len(data) // 2, len(data) - 10):
            (tmp_path / "bad.pt").write_bytes(data[:size])
            with pytest.raises(CheckpointError, match=r"bad\.pt is (truncated|not a file of weights)"):
                open_checkpoint(str(tmp_path / "bad.pt"), HEADS)

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_a_torchscript_program(self, tmp_path: Path) -> None:
        """OpenAI's own ViT-B-32.pt is one."""
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "ViT-B-32.pt")  # type: ignore[no-untyped-call]
        with pytest.raises(CheckpointError, match="is a TorchScript program, not weights .* Hugging Face layout"):
            open_checkpoint(str(tmp_path / "ViT-B-32.pt"))

    def test_two_files_in_a_folder(self, weights: Weights, tmp_path: Path) -> None:
        for name in ("epoch1.pt", "epoch2.pt"):
            torch.save(weights, tmp_path / name)
        with pytest.raises(CheckpointError, match=r"which of its files is meant: epoch1\.pt, epoch2\.pt\?"):
            open_checkpoint(str(tmp_path))

    def test_a_resnet_that_is_not_whole(self, tmp_path: Path, weights: Weights) -> None:
        resnet = {name: tensor for name, tensor in weights.items() if not name.startswith("visual.")}
        resnet |= {
            "visual.attnpool.positional_embedding": torch.ones(50, 2048),
            "visual.conv1.weight": torch.ones(32, 3, 3, 3),
        }
        assert "is not whole: it lacks visual.conv3.weight" in self.refused(resnet, tmp_path)


class TestModelScope:
    @pytest.fixture
    def folder(self, weights: Weights, tmp_path: Path) -> Path:
        """The layout of ModelScope, whose architecture is in two JSON files."""
        vision = {
            "embed_dim": 64,
            "image_resolution": 64,
            "vision_layers": 3,
            "vision_width": 96,
            "vision_head_width": 24,
            "vision_patch_size": 16,
        }
        text = {
            "vocab_size": 21128,
            "text_attention_probs_dropout_prob": 0.1,
            "text_hidden_act": "gelu",
            "text_hidden_dropout_prob": 0.1,
            "text_hidden_size": 96,
            "text_initializer_range": 0.02,
            "text_intermediate_size": 384,
            "text_max_position_embeddings": 512,
            "text_num_attention_heads": 4,
            "text_num_hidden_layers": 3,
            "text_type_vocab_size": 2,
        }
        for name, config in (("vision", vision), ("text", text)):
            (tmp_path / f"{name}_model_config.json").write_text(json.dumps(config))
        (tmp_path / "configuration.json").write_text('{"framework": "pytorch", "task": "multi-modal-embedding"}')
        shutil.copy(vocabulary(), tmp_path)
        torch.save({"state_dict": with_pooler(weights)}, tmp_path / "pytorch_model.bin")
        return tmp_path

    def change(self, file: Path, **values: Any) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    def test_weights_are_rounded_as_modelscope_does(self, folder: Path, weights: Weights) -> None:
        loaded = open_checkpoint(str(folder))
        vision, text = loaded.vision.state_dict(), loaded.text.state_dict()
        patches = "vision_model.embeddings.patch_embedding.weight"
        norm = "vision_model.encoder.layers.0.layer_norm1.weight"
        assert torch.equal(vision[patches], weights["visual.conv1.weight"].half().float())
        assert not torch.equal(vision[patches], weights["visual.conv1.weight"])
        assert torch.equal(vision[norm], weights["visual.transformer.resblocks.0.ln_1.weight"])
        assert torch.equal(text["head.weight"], weights["text_projection"].half().float().T)
        embeddings = "embeddings.LayerNorm.weight"
        assert torch.equal(text[embeddings], weights[f"bert.{embeddings}"].half().float())

    @pytest.mark.parametrize("missing", ["vision_model_config.json", "text_model_config.json", "pytorch_model.bin"])
    def test_a_missing_file(self, folder: Path, missing: str) -> None:
        (folder / missing).unlink()
        with pytest.raises(CheckpointError, match=f"{missing} is missing"):
            open_checkpoint(str(folder))

    @pytest.mark.parametrize(
        ("file", "values", "message"),
        [
            ("vision", {"vision_layers": 4}, "layers 4 in the JSON file, 3 in the weights"),
            ("vision", {"vision_layers": "[3,4,6,3]"}, "ResNetShape in the JSON file, VisionTransformerShape"),
            ("vision", {"image_resolution": 224}, "image_size 224 in the JSON file, 64 in the weights"),
            ("text", {"text_hidden_size": 768}, "width 768 in the JSON file, 96 in the weights"),
            ("vision", {"embed_dim": 512}, "embed_dim 512 in the JSON file, 64 in the weights"),
            ("text", {"vocab_size": "many"}, "vocabulary_size many in the JSON file"),
        ],
    )
    def test_json_of_another_model(self, folder: Path, file: str, values: dict[str, Any], message: str) -> None:
        self.change(folder / f"{file}_model_config.json", **values)
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(str(folder))

    def test_json_without_a_key(self, folder: Path) -> None:
        (folder / "vision_model_config.json").write_text('{"embed_dim": 64}')
        with pytest.raises(CheckpointError, match=r"vision_model_config\.json .*KeyError\('vision_layers'\)"):
            open_checkpoint(str(folder))


def test_the_resnets_reference_shares_nothing_with_the_tower() -> None:
    """It is what the build holds the tower to; what it used of it would be compared with itself."""
    code = (ROOT / "build/tuwen_build/checkpoints/_resnet_reference.py").read_text(encoding="utf-8")
    assert "tuwen_build" not in code

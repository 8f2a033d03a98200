"""The reading of native Chinese-CLIP and ModelScope checkpoints in all variants, and the reasons for refusals."""

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
from tests.support.paths import ROOT
from tests.support.pickles import Bomb
from tests.support.repositories import SHORT_VOCABULARY
from tuwen_build.checkpoints import Checkpoint, ReadOptions, open_checkpoint
from tuwen_build.errors import CheckpointError
from tuwen_build.export.assembly import model_card
from tuwen_build.export.encoders import text_encoder, vision_encoder
from tuwen_build.options import BuildOptions
from tuwen_repository.samples import vocabulary

HEADS = ReadOptions(heads=(2, 2))  # needed because the width of the checkpoint is not a published one
Weights = dict[str, Tensor]


def native(checkpoint: Path) -> Weights:
    """Return the weights of a checkpoint under their names in native checkpoints."""
    named = native_names(load_file(checkpoint / "model.safetensors"))
    return {name: tensor.contiguous() for name, tensor in named.items()}


@pytest.fixture(scope="module")
def weights(short_checkpoint: Path) -> Weights:
    return native(short_checkpoint)


@pytest.fixture
def folder(tmp_path: Path, short_checkpoint: Path) -> Path:
    """Return a folder that holds the vocabulary of the weights.

    Without this file, the build would use the published vocabulary, which does not fit the weights.
    """
    shutil.copy(short_checkpoint / "vocab.txt", tmp_path)
    return tmp_path


def with_flash_attention(weights: Weights) -> Weights:
    """Return the weights as cn_clip's convert_state_dict renames and joins them for training with FlashAttention."""
    result = {name.replace(".attn.in_proj_", ".attn.Wqkv."): tensor for name, tensor in weights.items()}
    for layer in range(2):
        attention = f"bert.encoder.layer.{layer}.attention"
        for kind in ("weight", "bias"):
            parts = [result.pop(f"{attention}.self.{part}.{kind}") for part in ("query", "key", "value")]
            result[f"{attention}.self.Wqkv.{kind}"] = torch.cat(parts)
            result[f"{attention}.self.out_proj.{kind}"] = result.pop(f"{attention}.output.dense.{kind}")
    return result


def with_pooler(weights: Weights) -> Weights:
    return {
        **weights,
        "bert.pooler.dense.weight": torch.ones(32, 32),
        "bert.pooler.dense.bias": torch.ones(32),
        "bert.embeddings.position_ids": torch.arange(64)[None],
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
    def test_reads_every_variant_as_the_same_model(
        self, short_checkpoint: Path, weights: Weights, folder: Path, variant: str
    ) -> None:
        file = folder / "clip_cn_small.pt"
        torch.save(VARIANTS[variant](dict(weights)), file)
        for source in (file, folder):  # on the hub, RN50's repository is a folder with the file alone
            got = open_checkpoint(str(source), HEADS)
            assert_same_towers(got, open_checkpoint(str(short_checkpoint)))
            assert got.family == "chinese-clip"
            assert got.tokenization.default_context_length == 52

    def test_both_layouts_have_the_same_fingerprint(self, minimal_checkpoint: Path, tmp_path: Path) -> None:
        """A native file without a vocabulary has the fingerprint of the same weights in the Hugging Face layout.

        The build then uses the published vocabulary, which cn_clip ships.
        """
        torch.save({"state_dict": native(minimal_checkpoint)}, tmp_path / "small.pt")
        cards = [
            model_card(found, BuildOptions(), vision_encoder(found, "fp32"), text_encoder(found, "fp32"))
            for found in (open_checkpoint(str(tmp_path / "small.pt"), HEADS), open_checkpoint(str(minimal_checkpoint)))
        ]
        assert cards[0].fingerprint == cards[1].fingerprint

    def test_reads_half_precision_files_as_float32(self, weights: Weights, folder: Path) -> None:
        torch.save({name: tensor.half() for name, tensor in weights.items()}, folder / "half.pt")
        loaded = open_checkpoint(str(folder / "half.pt"), HEADS)
        assert {parameter.dtype for parameter in loaded.vision.parameters()} == {torch.float32}

    def test_the_logit_scale_keeps_its_precision(self, weights: Weights, folder: Path) -> None:
        """A logit scale of 4.6052 is read in float32. Read in float16, the scale would be 4.6055."""
        torch.save({**weights, "logit_scale": torch.tensor(4.6052)}, folder / "released.pt")
        assert open_checkpoint(str(folder / "released.pt"), HEADS).logit_scale == pytest.approx(100.0032, abs=1e-3)

    def test_a_path_chooses_between_two_layouts_in_one_folder(
        self, short_checkpoint: Path, weights: Weights, tmp_path: Path
    ) -> None:
        """In a folder with both layouts, the folder's path selects the Hugging Face layout.

        The path of the native file selects the native layout. The repositories of OFA-Sys on the hub hold both layouts.
        """
        both = shutil.copytree(short_checkpoint, tmp_path / "both")
        torch.save({"state_dict": weights}, both / "clip_cn_small.pt")
        assert open_checkpoint(str(both)).origin.layout == "Hugging Face layout"
        assert open_checkpoint(str(both / "clip_cn_small.pt"), HEADS).origin.layout == "native layout"

    def test_uses_the_vocabulary_beside_the_file(self, weights: Weights, folder: Path) -> None:
        torch.save(weights, folder / "small.pt")
        loaded = open_checkpoint(str(folder / "small.pt"), HEADS)
        assert loaded.tokenization.files["vocab.txt"] == folder / "vocab.txt"

    def test_without_a_vocabulary_beside_the_file_the_published_one_is_used(
        self, minimal_checkpoint: Path, tmp_path: Path
    ) -> None:
        torch.save(native(minimal_checkpoint), tmp_path / "small.pt")
        for source in (tmp_path / "small.pt", tmp_path):
            loaded = open_checkpoint(str(source), HEADS)
            assert loaded.tokenization.files["vocab.txt"] == vocabulary()


class TestRejected:
    def rejected(self, content: Any, folder: Path, options: ReadOptions = HEADS) -> str:
        torch.save(content, folder / "bad.pt")
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(str(folder / "bad.pt"), options)
        assert "bad.pt" in str(caught.value)
        return str(caught.value)

    def test_a_width_that_is_not_published_needs_the_heads(self, weights: Weights, folder: Path) -> None:
        message = self.rejected(weights, folder, ReadOptions())
        assert "the number of attention heads of the image tower is unknown" in message
        assert "pass it with --heads IMAGE,TEXT" in message

    def test_rejects_a_missing_tensor(self, weights: Weights, folder: Path) -> None:
        partial = {name: tensor for name, tensor in weights.items() if "layer.1.output" not in name}
        assert "missing weights: text_model.encoder.layer.1.output" in self.rejected(partial, folder)

    def test_rejects_an_unexpected_tensor(self, weights: Weights, folder: Path) -> None:
        assert "unexpected weights: extra.weight" in self.rejected({**weights, "extra.weight": torch.ones(2)}, folder)

    def test_rejects_tensors_of_two_models(self, weights: Weights, folder: Path) -> None:
        mixed = {**weights, "text_projection": torch.ones(32, 8)}
        assert "the shapes of the weights do not fit" in self.rejected(mixed, folder)

    def test_rejects_a_model_of_another_family(self, folder: Path) -> None:
        message = self.rejected(nn.Linear(2, 2).state_dict(), folder)
        assert "not a native Chinese-CLIP checkpoint: it lacks visual.conv1.weight; it holds bias, weight" in message

    def test_rejects_position_embeddings_that_do_not_form_a_square(self, weights: Weights, folder: Path) -> None:
        odd = {**weights, "visual.positional_embedding": torch.ones(16, 32)}
        assert "expected a square number of position embeddings plus one for the class token, got 16" in self.rejected(
            odd, folder
        )

    @pytest.mark.parametrize("content", [{}, [1, 2], {"state_dict": {}}, {"epoch": 3}])
    def test_rejects_a_file_without_weights(self, folder: Path, content: Any) -> None:
        assert "holds no state dict" in self.rejected(content, folder)

    def test_does_not_load_a_pickle_that_would_run_code(self, weights: Weights, folder: Path) -> None:
        message = self.rejected({**weights, "bomb": Bomb(folder / "exploded")}, folder)
        assert "bad.pt was not loaded, because it holds more than weights: its pickle refers to getattr" in message
        assert not (folder / "exploded").exists()

    def test_rejects_a_truncated_file(self, weights: Weights, folder: Path) -> None:
        torch.save(weights, folder / "bad.pt")
        data = (folder / "bad.pt").read_bytes()
        for size in (0, 100, len(data) // 2, len(data) - 10):
            (folder / "bad.pt").write_bytes(data[:size])
            with pytest.raises(CheckpointError, match=r"bad\.pt (is truncated|was not loaded)"):
                open_checkpoint(str(folder / "bad.pt"), HEADS)

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_rejects_a_torchscript_program(self, folder: Path) -> None:
        """A TorchScript program, such as OpenAI's own ViT-B-32.pt, is refused. The error names a usable layout."""
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), folder / "ViT-B-32.pt")  # type: ignore[no-untyped-call]
        with pytest.raises(CheckpointError, match="is a TorchScript program, .* Hugging Face layout"):
            open_checkpoint(str(folder / "ViT-B-32.pt"))

    def test_asks_which_of_two_files_is_meant(self, weights: Weights, folder: Path) -> None:
        for name in ("epoch1.pt", "epoch2.pt"):
            torch.save(weights, folder / name)
        with pytest.raises(CheckpointError, match=r"several weights files: epoch1\.pt, epoch2\.pt; pass the path"):
            open_checkpoint(str(folder))

    def test_rejects_an_incomplete_resnet(self, folder: Path, weights: Weights) -> None:
        resnet = {name: tensor for name, tensor in weights.items() if not name.startswith("visual.")}
        resnet |= {
            "visual.attnpool.positional_embedding": torch.ones(50, 2048),
            "visual.conv1.weight": torch.ones(32, 3, 3, 3),
        }
        assert "is incomplete: it lacks visual.conv3.weight" in self.rejected(resnet, folder)


class TestModelScope:
    @pytest.fixture
    def folder(self, weights: Weights, folder: Path) -> Path:
        """Return a checkpoint in the layout of ModelScope, which states the architecture in two JSON files."""
        vision = {
            "embed_dim": 16,
            "image_resolution": 32,
            "vision_layers": 2,
            "vision_width": 32,
            "vision_head_width": 16,
            "vision_patch_size": 16,
        }
        text = {
            "vocab_size": len(SHORT_VOCABULARY),
            "text_attention_probs_dropout_prob": 0.1,
            "text_hidden_act": "gelu",
            "text_hidden_dropout_prob": 0.1,
            "text_hidden_size": 32,
            "text_initializer_range": 0.02,
            "text_intermediate_size": 128,
            "text_max_position_embeddings": 64,
            "text_num_attention_heads": 2,
            "text_num_hidden_layers": 2,
            "text_type_vocab_size": 2,
        }
        for name, config in (("vision", vision), ("text", text)):
            (folder / f"{name}_model_config.json").write_text(json.dumps(config))
        (folder / "configuration.json").write_text('{"framework": "pytorch", "task": "multi-modal-embedding"}')
        torch.save({"state_dict": with_pooler(weights)}, folder / "pytorch_model.bin")
        return folder

    def change(self, file: Path, **values: Any) -> None:
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    def test_rounds_weights_as_modelscope_does(self, folder: Path, weights: Weights) -> None:
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
    def test_rejects_a_folder_without_a_needed_file(self, folder: Path, missing: str) -> None:
        (folder / missing).unlink()
        with pytest.raises(CheckpointError, match=f"{missing} is missing"):
            open_checkpoint(str(folder))

    @pytest.mark.parametrize(
        ("file", "values", "message"),
        [
            ("vision", {"vision_layers": 4}, "layers 4 in the JSON file, 2 in the weights"),
            ("vision", {"vision_layers": "[3,4,6,3]"}, "ResNetShape in the JSON file, VisionTransformerShape"),
            ("vision", {"image_resolution": 224}, "image_size 224 in the JSON file, 32 in the weights"),
            ("text", {"text_hidden_size": 768}, "width 768 in the JSON file, 32 in the weights"),
            ("vision", {"embed_dim": 512}, "embed_dim 512 in the JSON file, 16 in the weights"),
            ("text", {"vocab_size": "many"}, "vocabulary_size many in the JSON file"),
        ],
    )
    def test_rejects_json_of_another_model(self, folder: Path, file: str, values: dict[str, Any], message: str) -> None:
        self.change(folder / f"{file}_model_config.json", **values)
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(str(folder))

    def test_rejects_json_without_a_needed_key(self, folder: Path) -> None:
        (folder / "vision_model_config.json").write_text('{"embed_dim": 16}')
        with pytest.raises(CheckpointError, match=r"vision_model_config\.json .*KeyError\('vision_layers'\)"):
            open_checkpoint(str(folder))


def test_the_resnet_reference_imports_nothing_from_the_build() -> None:
    """The reference of the ResNet shares no code with the build, which compares its own tower with this reference."""
    code = (ROOT / "build/tuwen_build/checkpoints/_resnet_reference.py").read_text(encoding="utf-8")
    assert "tuwen_build" not in code

"""A build is proven or refused, and appears complete or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.activations import GELUActivation, QuickGELUActivation

import tuwen_build.repository as repository_module
import tuwen_build.verify as verify_module
from tuwen import BuildError, InvalidArgumentError
from tuwen_build.checkpoints import open_checkpoint
from tuwen_build.encoders import VisionEncoder, text_encoder, vision_encoder
from tuwen_build.errors import CheckpointError, ExportError, NotARepositoryError, OutputExistsError, VerificationError
from tuwen_build.export import device_constants, export
from tuwen_build.hashing import sha256_of
from tuwen_build.manifest import Manifest
from tuwen_build.render import templates
from tuwen_build.repository import BuildOptions, build_repository
from tuwen_build.verify import bound


@pytest.fixture
def copied_checkpoint(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


@pytest.fixture
def own_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of model_repository that a test may break."""
    copied = shutil.copytree(templates(), tmp_path / "model_repository")
    monkeypatch.setattr(repository_module, "templates", lambda: copied)
    return copied


class TestManifest:
    def test_it_records_the_build(self, repository: Path, checkpoint: Path) -> None:
        manifest = Manifest.read(repository)
        assert manifest.family == "chinese-clip"
        assert manifest.checkpoint == str(checkpoint)
        assert manifest.sources["model.safetensors"] == sha256_of(checkpoint / "model.safetensors")
        assert manifest.versions["torch"] == torch.__version__
        for deviation in (manifest.image_deviation, manifest.text_deviation):
            assert 0 < deviation.max_abs < 1e-5
            assert deviation.compared > 30

    def test_it_hashes_every_file(self, checkpoint: Path, tmp_path: Path) -> None:
        output = tmp_path / "out"
        manifest = build_repository(str(checkpoint), output)
        files = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
        assert files == {*manifest.files, "manifest.json"}
        assert not any("__pycache__" in name for name in files)
        assert manifest.files["vision_encoder/1/model.pt"] == sha256_of(output / "vision_encoder/1/model.pt")

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"family": 1}'])
    def test_a_broken_one_is_refused(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(NotARepositoryError, match="is not the manifest of a build"):
            Manifest.read(tmp_path)


class TestFingerprint:
    def test_the_same_space_has_the_same_name(self, repository: Path, checkpoint: Path, tmp_path: Path) -> None:
        """Batch size is no property of the space, nor is where the checkpoint lay."""
        moved = shutil.copytree(checkpoint, tmp_path / "moved")
        again = build_repository(str(moved), tmp_path / "again", BuildOptions(max_batch_size=4))
        assert again.fingerprint == Manifest.read(repository).fingerprint

    @pytest.mark.parametrize(
        "options",
        [BuildOptions(context_length=20), BuildOptions(image_rules="display"), BuildOptions(text_rules="evaluation")],
    )
    def test_other_rules_are_another_space(
        self, repository: Path, checkpoint: Path, tmp_path: Path, options: BuildOptions
    ) -> None:
        other = build_repository(str(checkpoint), tmp_path / "other", options)
        assert other.fingerprint != Manifest.read(repository).fingerprint

    def test_one_changed_weight_is_another_space(
        self, repository: Path, copied_checkpoint: Path, tmp_path: Path
    ) -> None:
        weights = load_file(copied_checkpoint / "model.safetensors")
        weights["text_projection.weight"][0, 0] += 1e-3
        save_file(weights, copied_checkpoint / "model.safetensors", metadata={"format": "pt"})
        other = build_repository(str(copied_checkpoint), tmp_path / "other")
        assert other.fingerprint != Manifest.read(repository).fingerprint


class TestPrecision:
    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_lower_precision_keeps_its_bound(self, checkpoint: Path, tmp_path: Path, precision: str) -> None:
        manifest = build_repository(str(checkpoint), tmp_path / "out", BuildOptions(precision=precision))  # type: ignore[arg-type]
        for deviation in (manifest.image_deviation, manifest.text_deviation):
            assert 1e-5 < deviation.distance < bound(manifest.precision, 3).distance  # type: ignore[arg-type]

    def test_bounds_grow_with_depth_and_roundoff(self) -> None:
        assert bound("fp32", 48).max_abs == 1e-5
        assert bound("bf16", 12).distance == pytest.approx(8 * bound("fp16", 12).distance)
        assert bound("bf16", 12).distance < bound("bf16", 24).distance < 0.12


class TestRefusals:
    """Each of these faults keeps cosines above 0.99; the build must refuse it all the same."""

    def _replace(
        self,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        original: Callable[..., nn.Module],
        break_it: Callable[..., None],
    ) -> None:
        def broken(*arguments: object) -> nn.Module:
            encoder = original(*arguments)
            break_it(encoder)
            return encoder

        monkeypatch.setattr(repository_module, name, broken)

    def _assert_refused(self, checkpoint: Path, output: Path, message: str) -> None:
        with pytest.raises(VerificationError, match=message):
            build_repository(str(checkpoint), output)
        assert list(output.parent.iterdir()) == []

    def test_another_activation(self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def swap(encoder: nn.Module) -> None:
            for layer in encoder.modules():
                if isinstance(getattr(layer, "activation_fn", None), QuickGELUActivation):
                    layer.activation_fn = GELUActivation().eval()

        def own_tower(*_: object) -> nn.Module:
            # a tower of its own: the reference shares the checkpoint's
            return vision_encoder(open_checkpoint(str(checkpoint)), "fp32")

        self._replace(monkeypatch, "vision_encoder", own_tower, swap)
        self._assert_refused(checkpoint, tmp_path / "out", "exported vision encoder differs .* in a component")

    def test_a_forgotten_mask(self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Unmasked(nn.Module):
            def __init__(self, encoder: nn.Module) -> None:
                super().__init__()
                self.encoder = encoder

            def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
                return self.encoder(input_ids, torch.ones_like(attention_mask))  # type: ignore[no-any-return]

        monkeypatch.setattr(
            repository_module, "text_encoder", lambda *arguments: Unmasked(text_encoder(*arguments)).eval()
        )
        self._assert_refused(checkpoint, tmp_path / "out", "exported text encoder differs")

    def test_slightly_wrong_pixel_statistics(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def shift(encoder: VisionEncoder) -> None:
            encoder.mean += 0.001

        self._replace(monkeypatch, "vision_encoder", vision_encoder, shift)
        self._assert_refused(checkpoint, tmp_path / "out", "exported vision encoder differs")

    def test_a_lower_precision_hides_nothing(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bound of bf16 would let this through; the float32 original is judged too."""

        def shifted(*arguments: object) -> nn.Module:
            encoder = vision_encoder(*arguments)  # type: ignore[arg-type]
            encoder.mean += 0.001
            return encoder

        monkeypatch.setattr(repository_module, "vision_encoder", shifted)
        monkeypatch.setattr(verify_module, "vision_encoder", shifted)
        with pytest.raises(VerificationError, match="vision encoder's float32 original differs"):
            build_repository(str(checkpoint), tmp_path / "out", BuildOptions(precision="bf16"))

    def test_not_a_number(self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def spoil(encoder: VisionEncoder) -> None:
            encoder.std.fill_(float("nan"))

        self._replace(monkeypatch, "vision_encoder", vision_encoder, spoil)
        self._assert_refused(checkpoint, tmp_path / "out", "exported vision encoder differs")

    @pytest.mark.parametrize(
        ("file", "right", "wrong", "message"),
        [
            (
                "image_preprocessing/1/pixels.py",
                "Resampling.BICUBIC",
                "Resampling.BILINEAR",
                "preprocessing differs .* cat",
            ),
            (
                "image_preprocessing/1/pixels.py",
                'image.resize((side, side), Image.Resampling.BICUBIC).convert("RGB")',
                'image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)',
                "preprocessing differs from the reference on grey_alpha.png",
            ),
            (
                "text_tokenization/1/tokens.py",
                ".lower()",
                "",
                "tokenizer differs from the checkpoint's own on 'A photo",
            ),
            ("text_tokenization/1/tokens.py", "_WORD = 200", "_WORD = 100", "tokenizer differs from cn_clip's on 'aaa"),
            (
                "text_tokenization/1/tokens.py",
                "0x2B820, 0x2CEAF",
                "0x2B920, 0x2CEAF",
                "tokenizer differs from cn_clip's",
            ),
        ],
    )
    def test_other_rules_for_pixels_or_tokens(
        self, checkpoint: Path, tmp_path: Path, own_templates: Path, file: str, right: str, wrong: str, message: str
    ) -> None:
        path = own_templates / file
        code = path.read_text(encoding="utf-8")
        assert right in code
        path.write_text(code.replace(right, wrong), encoding="utf-8")
        output = tmp_path / "builds" / "out"
        self._assert_refused(checkpoint, output, message)


class TestExport:
    class OnItsDevice(nn.Module):
        def forward(self, pixel_values: Tensor) -> Tensor:
            return pixel_values + torch.arange(3, device=pixel_values.device)

    def test_a_device_constant_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match=r"only run on the device it was traced on.*Device = prim::Constant"):
            export(self.OnItsDevice().eval(), (torch.zeros(2, 3),), tmp_path / "model.pt")
        assert not (tmp_path / "model.pt").exists()

    def test_training_mode_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="training mode"):
            export(nn.Dropout(), (torch.zeros(2, 3),), tmp_path / "model.pt")

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_what_is_built_has_none_and_is_in_eval_mode(self, repository: Path) -> None:
        for model in ("vision_encoder", "text_encoder"):
            module = torch.jit.load(repository / model / "1" / "model.pt")  # type: ignore[no-untyped-call]
            assert device_constants(module) == []
            assert not module.training


class TestOutput:
    def test_an_interrupted_build_leaves_nothing(self, checkpoint: Path, tmp_path: Path) -> None:
        def interrupt(step: str) -> None:
            if "manifest" in step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_repository(str(checkpoint), tmp_path / "out", progress=interrupt)
        assert list(tmp_path.iterdir()) == []

    def test_an_earlier_build_is_kept_unless_replaced_by_a_good_one(self, repository: Path, tmp_path: Path) -> None:
        output = shutil.copytree(repository, tmp_path / "out")
        with pytest.raises(OutputExistsError, match="--force"):
            build_repository("anything", output)
        with pytest.raises(CheckpointError):
            build_repository(str(tmp_path / "missing"), output, force=True)
        assert Manifest.read(output) == Manifest.read(repository)
        checkpoint = Manifest.read(repository).checkpoint
        assert build_repository(checkpoint, output, BuildOptions(max_batch_size=2), force=True).max_batch_size == 2
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_a_folder_of_something_else_is_never_replaced(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(OutputExistsError, match="left alone"):
            build_repository(str(checkpoint), tmp_path, force=True)
        assert (tmp_path / "thesis.txt").read_text() == "years of work"

    def test_where_nothing_can_be_written(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(BuildError, match="cannot write"):
            build_repository(str(checkpoint), tmp_path / "file" / "out")


class TestCheckpoints:
    def test_a_missing_folder(self) -> None:
        with pytest.raises(CheckpointError, match="no such folder, and not a hub id"):
            open_checkpoint("/nowhere/at/all")

    def test_a_folder_of_another_kind_is_named_with_what_it_holds(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(CheckpointError, match=r"no checkpoint that this build knows .* holds: config\.json"):
            open_checkpoint(str(tmp_path))

    @pytest.mark.parametrize(
        ("file", "message"), [("vocab.txt", "vocab.txt is missing"), ("model.safetensors", "no weights")]
    )
    def test_a_missing_file(self, copied_checkpoint: Path, file: str, message: str) -> None:
        (copied_checkpoint / file).unlink()
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(str(copied_checkpoint))

    def test_missing_weights_are_not_made_up(self, copied_checkpoint: Path) -> None:
        path = copied_checkpoint / "model.safetensors"
        weights = load_file(path)
        del weights["text_projection.weight"]
        save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match="do not fit config.json: missing keys: text_projection.weight"):
            open_checkpoint(str(copied_checkpoint))

    def test_a_truncated_file(self, copied_checkpoint: Path) -> None:
        path = copied_checkpoint / "model.safetensors"
        path.write_bytes(path.read_bytes()[:100_000])
        with pytest.raises(CheckpointError, match="cannot load the weights"):
            open_checkpoint(str(copied_checkpoint))

    def test_broken_json(self, copied_checkpoint: Path) -> None:
        (copied_checkpoint / "config.json").write_text("{")
        with pytest.raises(CheckpointError, match="config.json is not JSON"):
            open_checkpoint(str(copied_checkpoint))

    def test_a_vocabulary_of_another_model(self, copied_checkpoint: Path) -> None:
        path = copied_checkpoint / "vocab.txt"
        path.write_text(path.read_text(encoding="utf-8") + "extra\n", encoding="utf-8")
        with pytest.raises(CheckpointError, match="has 21129 tokens, config.json says vocab_size 21128"):
            open_checkpoint(str(copied_checkpoint))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"do_center_crop": True}, "centre crop"),
            ({"size": {"height": 99, "width": 99}}, "resizes to 99 pixels"),
            ({"resample": 2}, "bicubic"),
        ],
    )
    def test_preprocessing_that_is_not_chinese_clips(
        self, copied_checkpoint: Path, settings: dict[str, object], message: str
    ) -> None:
        (copied_checkpoint / "preprocessor_config.json").write_text(json.dumps(settings))
        with pytest.raises(CheckpointError, match=message):
            open_checkpoint(str(copied_checkpoint))

    def test_pickled_weights_load_too(self, copied_checkpoint: Path, checkpoint: Path) -> None:
        weights = load_file(copied_checkpoint / "model.safetensors")
        (copied_checkpoint / "model.safetensors").unlink()
        torch.save(weights, copied_checkpoint / "pytorch_model.bin")
        loaded = open_checkpoint(str(copied_checkpoint)).text.state_dict()
        for name, tensor in open_checkpoint(str(checkpoint)).text.state_dict().items():
            torch.testing.assert_close(loaded[name], tensor, rtol=0, atol=0)

    def test_a_hub_id_is_read_through_the_hubs_cache(
        self, checkpoint: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The layout of the hub's own cache, as a download leaves it; no network is needed to read it."""
        snapshot = hub_cache / "models--someone--small-clip" / "snapshots" / ("0" * 40)
        shutil.copytree(checkpoint, snapshot)
        (hub_cache / "models--someone--small-clip" / "refs").mkdir()
        (hub_cache / "models--someone--small-clip" / "refs" / "main").write_text("0" * 40)
        assert open_checkpoint("someone/small-clip").embedding_dimension == 64

    def test_a_hub_that_is_out_of_reach(self, hub_cache: Path) -> None:
        with pytest.raises(CheckpointError, match="cannot fetch someone/other-clip from the hub"):
            open_checkpoint("someone/other-clip")

    @pytest.fixture
    def hub_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        import huggingface_hub.constants as hub

        monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        return tmp_path


class TestOptions:
    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16"),
            ({"max_batch_size": 0}, "max batch size"),
            ({"context_length": 2}, "leaves no room"),
            ({"image_rules": "x"}, "image rules"),
            ({"text_rules": "x"}, "text rules"),
        ],
    )
    def test_nonsense_is_refused(self, choice: dict[str, object], message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            BuildOptions(**choice)  # type: ignore[arg-type]

    def test_a_context_longer_than_the_positions(self, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="more than the checkpoint's 512 positions"):
            build_repository(str(checkpoint), tmp_path / "out", BuildOptions(context_length=513))

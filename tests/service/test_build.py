"""A build is proven or refused, and appears complete or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPMLP

from tuwen import BuildError, InvalidArgumentError
from tuwen_build.errors import CheckpointError, ExportError, NotARepositoryError, OutputExistsError
from tuwen_build.export import device_constants, export
from tuwen_build.folding import fold_quick_gelu
from tuwen_build.hashing import sha256_of
from tuwen_build.manifest import Manifest
from tuwen_build.quantization import Int8FeedForward, Int8Linear
from tuwen_build.repository import BuildOptions, build_repository
from tuwen_build.verify import bound


@pytest.fixture
def copied_checkpoint(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


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
        [
            BuildOptions(context_length=20),
            BuildOptions(image_rules="display"),
            BuildOptions(jpeg_decoding="scaled"),
            BuildOptions(text_rules="evaluation"),
        ],
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
    @pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
    def test_lower_precision_keeps_its_bound(self, checkpoint: Path, tmp_path: Path, precision: str) -> None:
        manifest = build_repository(str(checkpoint), tmp_path / "out", BuildOptions(precision=precision))  # type: ignore[arg-type]
        for deviation in (manifest.image_deviation, manifest.text_deviation):
            assert 1e-5 < deviation.distance < bound(manifest.precision, 3).distance  # type: ignore[arg-type]

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_int8_vectors_do_not_depend_on_their_batch(self, checkpoint: Path, tmp_path: Path) -> None:
        """With one scale for the whole batch, as in torch's quantize_dynamic, they would."""
        build_repository(str(checkpoint), tmp_path / "out", BuildOptions(precision="int8"))
        encoder = torch.jit.load(tmp_path / "out" / "vision_encoder" / "1" / "model.pt")  # type: ignore[no-untyped-call]
        pixels = torch.randint(0, 256, (7, 3, 64, 64), dtype=torch.uint8)
        pixels[3] = 255  # the largest values there can be, for the neighbours to suffer from
        with torch.inference_mode():
            together = encoder(pixels)
            alone = torch.cat([encoder(image[None]) for image in pixels])
        assert (together - alone).abs().max() < 1e-5

    def test_int8_stays_on_the_cpu(self, checkpoint: Path, tmp_path: Path) -> None:
        build_repository(str(checkpoint), tmp_path / "out", BuildOptions(precision="int8"))
        for model in ("vision_encoder", "text_encoder"):
            text = (tmp_path / "out" / model / "config.pbtxt").read_text(encoding="utf-8")
            assert "kind: KIND_CPU" in text
            assert "KIND_AUTO" not in text

    def test_int8_layers_leave_rows_of_zeros_alone(self) -> None:
        layer = Int8Linear(nn.Linear(8, 4))
        outputs = layer(torch.zeros(2, 3, 8))
        assert outputs.shape == (2, 3, 4)
        assert torch.equal(outputs, layer.bias.expand(2, 3, 4))  # type: ignore[union-attr]

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_int8_layers_take_more_rows_than_they_do_at_once(self, tmp_path: Path) -> None:
        plain = nn.Linear(32, 8).eval()
        export(Int8Linear(plain).eval(), (torch.randn(2, 3, 32),), tmp_path / "layer.pt")
        layer = torch.jit.load(tmp_path / "layer.pt")  # type: ignore[no-untyped-call]
        inputs = torch.randn(5, 120, 32) * torch.rand(5, 120, 1) * 100
        with torch.inference_mode():
            off = (layer(inputs) - plain(inputs)).abs().amax(-1)
        assert (off < 0.02 * inputs.abs().amax(-1)).all()  # of every row, as its own scale has it
        assert off.max() > 0

    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_int8_feed_forward_blocks_are_their_two_layers(self, tmp_path: Path) -> None:
        block = CLIPMLP(CLIPVisionConfig(hidden_size=24, intermediate_size=96, hidden_act="quick_gelu")).eval()
        fold_quick_gelu(nn.Sequential(block))
        export(Int8FeedForward(block).eval(), (torch.randn(2, 3, 24),), tmp_path / "block.pt")
        joined = torch.jit.load(tmp_path / "block.pt")  # type: ignore[no-untyped-call]
        inputs = torch.randn(5, 120, 24)
        with torch.inference_mode():
            apart = Int8Linear(block.fc2)(nn.functional.silu(Int8Linear(block.fc1)(inputs)))
            assert torch.equal(joined(inputs), apart)
            assert 0 < (apart - block(inputs)).abs().max() < 0.02 * apart.abs().max()

    def test_bounds_grow_with_depth_and_roundoff(self) -> None:
        assert bound("fp32", 48).max_abs == 1e-5
        assert bound("bf16", 12).distance == pytest.approx(8 * bound("fp16", 12).distance)
        assert bound("int8", 12).distance == pytest.approx(2 * bound("bf16", 12).distance)
        assert bound("bf16", 12).distance < bound("bf16", 24).distance < 0.12


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
    def test_nonsense_is_refused(self, choice: dict[str, object], message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            BuildOptions(**choice)  # type: ignore[arg-type]

    def test_a_context_longer_than_the_positions(self, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="more than the checkpoint's 512 positions"):
            build_repository(str(checkpoint), tmp_path / "out", BuildOptions(context_length=513))

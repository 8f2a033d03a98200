"""Tests of a build: complete output or none, the manifest, and the deviation that a precision allows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.repositories import Built
from tuwen_build.checkpoints import open_checkpoint
from tuwen_build.errors import BuildError, CheckpointError, OutputExistsError
from tuwen_build.export.assembly import model_card
from tuwen_build.export.encoders import text_encoder, vision_encoder
from tuwen_build.export.torchscript import device_constants
from tuwen_build.options import Precision
from tuwen_build.repository import BuildOptions, build_repository
from tuwen_build.verification.verify import bound
from tuwen_repository.checksums import sha256_of
from tuwen_repository.manifest import Manifest

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def exported(repository: Path, model: str) -> Any:
    return torch.jit.load(repository / model / "1" / "model.pt")  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def fresh(minimal_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the minimal checkpoint to a repository that no test has loaded or served. Do not change its files."""
    output = tmp_path_factory.mktemp("fresh") / "out"
    build_repository(str(minimal_checkpoint), output)
    return output


class TestManifest:
    def test_records_the_build(self, repository: Path, checkpoint: Path) -> None:
        manifest = Manifest.read(repository)
        assert manifest.family == "chinese-clip"
        assert manifest.checkpoint == str(checkpoint)
        assert manifest.sources["model.safetensors"] == sha256_of(checkpoint / "model.safetensors")
        assert manifest.versions["torch"] == torch.__version__
        assert manifest.gpu_environment == {"NVIDIA_TF32_OVERRIDE": "0"}
        for deviation in (manifest.image_deviation, manifest.text_deviation):
            assert 0 < deviation.max_abs < 1e-5
            assert deviation.compared > 30

    def test_names_the_embedding_space(self, repository: Path, checkpoint: Path) -> None:
        """The manifest's fingerprint equals the fingerprint of the checkpoint's model card.

        `tests/unit/building/test_assembly.py` tests which changes alter a fingerprint.
        """
        found = open_checkpoint(str(checkpoint))
        card = model_card(found, BuildOptions(), vision_encoder(found, "fp32"), text_encoder(found, "fp32"))
        assert Manifest.read(repository).fingerprint == card.fingerprint

    def test_a_name_changes_only_the_names_of_the_models(self, minimal_checkpoint: Path, built: Built) -> None:
        bare = built.of(minimal_checkpoint, "minimal-repository", BuildOptions())
        named = built.of(minimal_checkpoint, "minimal-repository", BuildOptions(name="b16"))
        ours, theirs = Manifest.read(bare), Manifest.read(named)
        theirs.check(named)
        assert (ours.name, theirs.name) == ("", "b16")
        assert theirs.fingerprint == ours.fingerprint
        # Two exports write different TorchScript files for equal weights; the fingerprint hashes only the weights.
        same = {path for path in ours.files if not path.endswith(("config.pbtxt", "model.pt"))}
        assert {path: theirs.files[f"b16_{path}"] for path in same} == {path: ours.files[path] for path in same}
        assert set(theirs.files) == {f"b16_{path}" for path in ours.files}

    def test_hashes_every_file(self, fresh: Path) -> None:
        manifest = Manifest.read(fresh)
        files = {str(path.relative_to(fresh)) for path in fresh.rglob("*") if path.is_file()}
        assert files == {*manifest.files, "manifest.json"}
        assert not any("__pycache__" in name for name in files)
        assert manifest.files["vision_encoder/1/model.pt"] == sha256_of(fresh / "vision_encoder/1/model.pt")


class TestPrecision:
    def test_a_build_for_gpus_holds_the_text_of_its_full_warm_up(self, built: Built) -> None:
        repository = built(BuildOptions(precision="fp16"))
        name = "text_encoder/warmup/ones"
        length = Manifest.read(repository).context_length
        assert np.fromfile(repository / name, dtype="<i8").tolist() == [1] * length
        assert name in Manifest.read(repository).files

    @pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
    def test_lower_precision_stays_within_its_bound(self, built: Built, precision: Precision) -> None:
        manifest = Manifest.read(built(BuildOptions(precision=precision)))
        assert manifest.precision == precision
        for deviation in (manifest.image_deviation, manifest.text_deviation):
            assert 1e-5 < deviation.distance < bound(precision, 3).distance

    def test_int8_vectors_do_not_depend_on_their_batch(self, built: Built) -> None:
        """An image has the same int8 vector alone and in a batch.

        With one scale for a whole batch, as in torch's quantize_dynamic, the vector would depend on the other images.
        """
        encoder = exported(built(BuildOptions(precision="int8")), "vision_encoder")
        pixels = torch.randint(0, 256, (7, 3, 64, 64), dtype=torch.uint8)
        pixels[3] = 255  # the largest pixel values: with a shared scale, smaller values would be rounded to 0
        with torch.inference_mode():
            together = encoder(pixels)
            alone = torch.cat([encoder(image[None]) for image in pixels])
        assert (together - alone).abs().max() < 1e-5

    def test_int8_stays_on_the_cpu(self, built: Built) -> None:
        for model in ("vision_encoder", "text_encoder"):
            config = (built(BuildOptions(precision="int8")) / model / "config.pbtxt").read_text(encoding="utf-8")
            assert "kind: KIND_CPU" in config
            assert "KIND_AUTO" not in config

    def test_encoders_run_on_every_device_and_are_in_eval_mode(self, repository: Path) -> None:
        for model in ("vision_encoder", "text_encoder"):
            encoder = exported(repository, model)
            assert device_constants(encoder) == []
            assert not encoder.training


class TestOutput:
    def test_an_interrupted_build_leaves_nothing(self, minimal_checkpoint: Path, tmp_path: Path) -> None:
        def interrupt(step: str) -> None:
            if "manifest" in step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_repository(str(minimal_checkpoint), tmp_path / "out", progress=interrupt)
        assert list(tmp_path.iterdir()) == []

    def test_rejects_an_output_that_exists(self, tmp_path: Path, fresh: Path) -> None:
        output = shutil.copytree(fresh, tmp_path / "out")
        with pytest.raises(OutputExistsError, match="--force"):
            build_repository("anything", output)
        assert Manifest.read(output) == Manifest.read(fresh)

    def test_a_failed_build_keeps_the_earlier_repository(self, tmp_path: Path, fresh: Path) -> None:
        output = shutil.copytree(fresh, tmp_path / "out")
        with pytest.raises(CheckpointError):
            build_repository(str(tmp_path / "missing"), output, force=True)
        assert Manifest.read(output) == Manifest.read(fresh)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_a_successful_build_replaces_the_earlier_repository(
        self, minimal_checkpoint: Path, tmp_path: Path, fresh: Path
    ) -> None:
        output = shutil.copytree(fresh, tmp_path / "out")
        build_repository(str(minimal_checkpoint), output, BuildOptions(max_batch_size=2), force=True)
        assert Manifest.read(output).max_batch_size == 2
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_a_folder_that_is_not_a_repository_is_never_replaced(
        self, minimal_checkpoint: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(OutputExistsError, match="not changed"):
            build_repository(str(minimal_checkpoint), tmp_path, force=True)
        assert (tmp_path / "thesis.txt").read_text() == "years of work"

    def test_rejects_an_output_that_cannot_be_written(self, minimal_checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(BuildError, match="cannot write"):
            build_repository(str(minimal_checkpoint), tmp_path / "file" / "out")

    def test_rejects_options_that_the_checkpoint_does_not_allow(self, minimal_checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match="expected at most 64, .*; got 65"):
            build_repository(str(minimal_checkpoint), tmp_path / "out", BuildOptions(context_length=65))
        with pytest.raises(BuildError, match="text_rules: expected .* for chinese-clip, got unmasked"):
            build_repository(str(minimal_checkpoint), tmp_path / "out", BuildOptions(text_rules="unmasked"))
        assert list(tmp_path.iterdir()) == []

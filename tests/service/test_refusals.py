"""The build rejects an encoder, a preprocessing or a tokenizer that differs slightly from the reference.

For a few faults of each kind, the whole build runs. All other faults are put into a copy of an assembled repository,
and only the verification of the copy runs.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tuwen_build.export.assembly as assembly_module
import tuwen_build.verification.verify as verify_module
from tests.support.artefacts import Artefacts
from tests.support.originals import Originals
from tests.support.repositories import minimal_clip
from tuwen_build.checkpoints import Checkpoint, open_checkpoint
from tuwen_build.errors import VerificationError
from tuwen_build.export.assembly import assemble, export_text, export_vision
from tuwen_build.export.configs import templates
from tuwen_build.export.encoders import text_encoder, vision_encoder
from tuwen_build.repository import BuildOptions, build_repository
from tuwen_build.verification.verify import verify_images, verify_texts
from tuwen_repository.deviation import Deviation

PIXELS = "image_preprocessing/1/pixels.py"
WORDPIECE = "text_tokenization/1/wordpiece.py"
BYTE_PAIRS = "text_tokenization/1/byte_pairs.py"
Fault = Callable[[nn.Module], nn.Module]
Verify = Callable[[Path, Checkpoint, BuildOptions], Deviation]


@dataclass(frozen=True)
class Assembled:
    """A repository that is not verified yet.

    Attributes:
        folder: the folder of the repository.
        checkpoint: the checkpoint from which the repository was assembled.
    """

    folder: Path
    checkpoint: Checkpoint

    def copied(self, place: Path) -> Assembled:
        return Assembled(shutil.copytree(self.folder, place), self.checkpoint)

    def assert_rejected(self, verify: Verify, message: str) -> str:
        with pytest.raises(VerificationError, match=message) as caught:
            verify(self.folder, self.checkpoint, BuildOptions())
        return str(caught.value)

    def assert_rejects_line(self, place: Path, file: str, right: str, wrong: str, message: str) -> None:
        """Check that the verification rejects a copy with one wrong line in the code for pixels or tokens.

        Args:
            place: the folder of the copy, which must not exist yet.
            file: the path of the code in the repository.
            right: the part of the code that is replaced.
            wrong: the replacement.
            message: a regular expression for the error's message.
        """
        broken = self.copied(place)
        replace_in(broken.folder / file, right, wrong)
        broken.assert_rejected(verify_images if file == PIXELS else verify_texts, message)


def assembled(checkpoint: Path, folder: Path) -> Assembled:
    loaded = open_checkpoint(str(checkpoint))
    assemble(folder, loaded, BuildOptions())
    return Assembled(folder, loaded)


@pytest.fixture(scope="module")
def clip_checkpoint(artefacts: Artefacts, originals: Originals) -> Path:
    return minimal_clip(artefacts, originals.clip_vocabulary())


@pytest.fixture(scope="module")
def good(minimal_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Assembled:
    return assembled(minimal_checkpoint, tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def good_clip(clip_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Assembled:
    return assembled(clip_checkpoint, tmp_path_factory.mktemp("good-clip"))


@pytest.fixture
def own_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy model_repository and the SDK's modules, make builds use the copy, and return the folder of the copy."""
    copied = shutil.copytree(templates(), tmp_path / "model_repository")
    modules = {
        model: [Path(shutil.copy(path, copied / model / "1")) for path in assembly_module.sdk_modules(model)]
        for model in ("image_preprocessing", "text_tokenization")
    }
    monkeypatch.setattr(assembly_module, "sdk_modules", modules.__getitem__)
    monkeypatch.setattr(assembly_module, "templates", lambda: copied)
    return copied


def replace_in(path: Path, right: str, wrong: str) -> None:
    code = path.read_text(encoding="utf-8")
    assert right in code
    path.write_text(code.replace(right, wrong), encoding="utf-8")


def smallest_cosine(message: str) -> float:
    """Return the last number of an error message: the smallest cosine of an encoder's vector and its reference."""
    return float(message.rpartition(" ")[2])


def test_correct_files_are_accepted(good: Assembled, good_clip: Assembled) -> None:
    for each in (good, good_clip):
        verify_images(each.folder, each.checkpoint, BuildOptions())
        verify_texts(each.folder, each.checkpoint, BuildOptions())


class Gelu(nn.Module):
    """A wrong activation: exact GELU in place of QuickGELU.

    The export folds QuickGELU's factor 1.702 into the layers before and after the activation. So the activation's input
    and output are 1.702 times those of plain QuickGELU.
    """

    def forward(self, scaled: Tensor) -> Tensor:
        return 1.702 * nn.functional.gelu(scaled / 1.702)


def with_another_activation(encoder: nn.Module) -> nn.Module:
    blocks = [layer for layer in encoder.modules() if isinstance(getattr(layer, "activation_fn", None), nn.SiLU)]
    assert blocks
    for block in blocks:
        block.activation_fn = Gelu().eval()
    return encoder


def with_shifted_mean(encoder: nn.Module) -> nn.Module:
    encoder.mean += 0.001  # type: ignore[operator]
    return encoder


def with_undefined_numbers(encoder: nn.Module) -> nn.Module:
    encoder.std.fill_(float("nan"))  # type: ignore[operator, union-attr]
    return encoder


class Unmasked(nn.Module):
    """A wrong text encoder, which also attends to the padding."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder(input_ids, torch.ones_like(attention_mask))  # type: ignore[no-any-return]


def without_causal_mask(encoder: nn.Module) -> nn.Module:
    encoder.tower.causal.fill_(1)  # type: ignore[union-attr, operator]
    return encoder


class TestWrongEncoders:
    """Encoders with small faults are rejected, although the cosines with the reference may be close to 1."""

    @pytest.mark.parametrize(("fault", "cosine"), [(with_another_activation, 0.9998), (with_shifted_mean, 0.999)])
    def test_rejects_a_vision_encoder_although_its_cosines_are_high(
        self, checkpoint: Path, tmp_path: Path, fault: Fault, cosine: float
    ) -> None:
        """A vision encoder is rejected for a wrong component of a vector, even if all cosines are above `cosine`.

        The checkpoint has three layers. With fewer layers, the faults would change the cosines more.
        """
        loaded = open_checkpoint(str(checkpoint))
        assemble(tmp_path, loaded, BuildOptions())
        export_vision(tmp_path, fault(vision_encoder(loaded, "fp32")), loaded.preprocessing.image_size)
        message = Assembled(tmp_path, loaded).assert_rejected(
            verify_images, "exported vision encoder differs .* in a component"
        )
        assert smallest_cosine(message) > cosine

    def test_rejects_nan_vectors(self, good: Assembled, tmp_path: Path) -> None:
        broken = good.copied(tmp_path / "broken")
        encoder = with_undefined_numbers(vision_encoder(good.checkpoint, "fp32"))
        export_vision(broken.folder, encoder, good.checkpoint.preprocessing.image_size)
        broken.assert_rejected(verify_images, "exported vision encoder differs")

    def test_rejects_a_text_encoder_without_a_causal_mask(self, good_clip: Assembled, tmp_path: Path) -> None:
        broken = good_clip.copied(tmp_path / "broken")
        export_text(broken.folder, without_causal_mask(text_encoder(good_clip.checkpoint, "fp32")), 77)
        broken.assert_rejected(verify_texts, "exported text encoder differs")

    def test_lower_precision_hides_no_fault(self, good: Assembled, monkeypatch: pytest.MonkeyPatch) -> None:
        """A build in bf16 rejects an encoder whose float32 original is wrong.

        The bound for bf16 alone would accept this fault, so the float32 original is compared, too.
        """
        monkeypatch.setattr(
            verify_module, "vision_encoder", lambda *arguments: with_shifted_mean(vision_encoder(*arguments))
        )
        with pytest.raises(VerificationError, match="vision encoder's float32 original differs"):
            verify_images(good.folder, good.checkpoint, BuildOptions(precision="bf16"))

    @pytest.mark.parametrize(
        ("name", "original", "fault", "message"),
        [
            ("vision_encoder", vision_encoder, with_another_activation, "exported vision encoder differs"),
            ("text_encoder", text_encoder, lambda encoder: Unmasked(encoder).eval(), "exported text encoder differs"),
        ],
    )
    def test_the_whole_build_rejects_a_wrong_encoder(
        self,
        minimal_checkpoint: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        original: Callable[..., nn.Module],
        fault: Fault,
        message: str,
    ) -> None:
        monkeypatch.setattr(assembly_module, name, lambda *arguments: fault(original(*arguments)))
        with pytest.raises(VerificationError, match=message):
            build_repository(str(minimal_checkpoint), tmp_path / "out")
        assert list(tmp_path.iterdir()) == []


CONVERTED_TOO_EARLY = (
    "        side = self.image_size\n        if self.resize",
    '        side, image = self.image_size, image.convert("RGB")\n        if self.resize',
)


class TestOtherRules:
    """A repository is rejected if one line of its code for pixels or tokens is wrong."""

    @pytest.mark.parametrize(
        ("file", "right", "wrong", "message"),
        [
            (PIXELS, "Resampling.BICUBIC", "Resampling.BILINEAR", "preprocessing differs .* cat"),
            (PIXELS, *CONVERTED_TOO_EARLY, "preprocessing differs from the reference on grey_alpha.png"),
            (WORDPIECE, ".lower()", "", "tokenizer differs from the checkpoint's own on 'A photo"),
            (WORDPIECE, "_WORD = 200", "_WORD = 100", "tokenizer differs from cn_clip's on 'aaa"),
            (WORDPIECE, "0x2B820, 0x2CEAF", "0x2B920, 0x2CEAF", "tokenizer differs from cn_clip's"),
        ],
    )
    def test_rejects_a_wrong_line_in_a_chinese_clip(
        self, good: Assembled, tmp_path: Path, file: str, right: str, wrong: str, message: str
    ) -> None:
        good.assert_rejects_line(tmp_path / "broken", file, right, wrong, message)

    @pytest.mark.parametrize(
        ("file", "right", "wrong", "message"),
        [
            (PIXELS, "round((edge - side) / 2)", "-(-(edge - side) // 2)", "preprocessing differs"),
            (PIXELS, "side * max(size) // min(size)", "side * max(size) // min(size) + 1", "preprocessing differs"),
            (BYTE_PAIRS, "ftfy.fix_text(text)", "text", "tokenizer differs from open_clip's"),
            (BYTE_PAIRS, "html.unescape(html.unescape(", "((", "tokenizer differs from open_clip's"),
            (BYTE_PAIRS, ".lower()", "", "tokenizer differs from the checkpoint's own on 'A photo"),
        ],
    )
    def test_rejects_a_wrong_line_in_an_openai_clip(
        self, good_clip: Assembled, tmp_path: Path, file: str, right: str, wrong: str, message: str
    ) -> None:
        good_clip.assert_rejects_line(tmp_path / "broken", file, right, wrong, message)

    @pytest.mark.parametrize(
        ("family", "file", "right", "wrong", "message"),
        [
            ("chinese-clip", PIXELS, "Resampling.BICUBIC", "Resampling.BILINEAR", "preprocessing differs"),
            ("openai-clip", PIXELS, "round((edge - side) / 2)", "-(-(edge - side) // 2)", "preprocessing differs"),
            ("chinese-clip", WORDPIECE, "_WORD = 200", "_WORD = 100", "tokenizer differs from cn_clip's"),
            ("openai-clip", BYTE_PAIRS, "ftfy.fix_text(text)", "text", "tokenizer differs from open_clip's"),
        ],
    )
    def test_the_whole_build_rejects_a_wrong_line(
        self,
        minimal_checkpoint: Path,
        clip_checkpoint: Path,
        tmp_path: Path,
        own_templates: Path,
        family: str,
        file: str,
        right: str,
        wrong: str,
        message: str,
    ) -> None:
        replace_in(own_templates / file, right, wrong)
        checkpoint = {"chinese-clip": minimal_checkpoint, "openai-clip": clip_checkpoint}[family]
        with pytest.raises(VerificationError, match=re.escape(message)):
            build_repository(str(checkpoint), tmp_path / "builds" / "out")
        assert list((tmp_path / "builds").iterdir()) == []

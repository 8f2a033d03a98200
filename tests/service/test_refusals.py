"""What the build must refuse, whatever the family."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import tuwen_build.repository as repository_module
import tuwen_build.verify as verify_module
from tests.support.checkpoints import TextSizes, VisionSizes, write_openai_clip
from tuwen_build.checkpoints import Checkpoint, open_checkpoint
from tuwen_build.encoders import Precision, VisionEncoder, text_encoder, vision_encoder
from tuwen_build.errors import VerificationError
from tuwen_build.reference import normalised
from tuwen_build.render import templates
from tuwen_build.repository import BuildOptions, build_repository
from tuwen_build.samples import PHOTOGRAPHS, sample

PIXELS = "image_preprocessing/1/pixels.py"
WORDPIECE = "text_tokenization/1/wordpiece.py"
BYTE_PAIRS = "text_tokenization/1/byte_pairs.py"


@pytest.fixture
def own_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of model_repository that a test may break."""
    copied = shutil.copytree(templates(), tmp_path / "model_repository")
    monkeypatch.setattr(repository_module, "templates", lambda: copied)
    return copied


def replace_in(path: Path, right: str, wrong: str) -> None:
    code = path.read_text(encoding="utf-8")
    assert right in code
    path.write_text(code.replace(right, wrong), encoding="utf-8")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip") / "checkpoint"
    return write_openai_clip(folder, VisionSizes(96, 3, 4, 16, 64), TextSizes(96, 3, 4), 64)


class TestRefusals:
    """The build refuses every fault, also where no cosine would tell."""

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

    def _assert_refused(self, checkpoint: Path, output: Path, message: str) -> str:
        with pytest.raises(VerificationError, match=message) as caught:
            build_repository(str(checkpoint), output)
        assert list(output.parent.iterdir()) == []
        return str(caught.value)

    def _cosine(self, message: str) -> float:
        """The smallest cosine between what the broken encoder and the reference gave."""
        return float(message.rpartition(" ")[2])

    def test_another_activation(self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class Gelu(nn.Module):
            """Between layers that QuickGELU's factor was folded into."""

            def forward(self, scaled: Tensor) -> Tensor:
                return 1.702 * nn.functional.gelu(scaled / 1.702)

        def swap(encoder: nn.Module) -> None:
            swapped = 0
            for layer in encoder.modules():
                if isinstance(getattr(layer, "activation_fn", None), nn.SiLU):
                    layer.activation_fn = Gelu().eval()
                    swapped += 1
            assert swapped

        self._replace(monkeypatch, "vision_encoder", vision_encoder, swap)
        message = self._assert_refused(checkpoint, tmp_path / "out", "vision encoder differs .* in a component")
        assert self._cosine(message) > 0.9998  # a test of cosines would have passed it

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
        message = self._assert_refused(checkpoint, tmp_path / "out", "exported vision encoder differs")
        assert self._cosine(message) > 0.999

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
                PIXELS,
                "Resampling.BICUBIC",
                "Resampling.BILINEAR",
                "preprocessing differs .* cat",
            ),
            (
                PIXELS,
                "        side = self.image_size\n        if self.resize",
                '        side, image = self.image_size, image.convert("RGB")\n        if self.resize',
                "preprocessing differs from the reference on grey_alpha.png",
            ),
            (
                WORDPIECE,
                ".lower()",
                "",
                "tokenizer differs from the checkpoint's own on 'A photo",
            ),
            (
                WORDPIECE,
                "_WORD = 200",
                "_WORD = 100",
                "tokenizer differs from cn_clip's on 'aaa",
            ),
            (
                WORDPIECE,
                "0x2B820, 0x2CEAF",
                "0x2B920, 0x2CEAF",
                "tokenizer differs from cn_clip's",
            ),
        ],
    )
    def test_other_rules_for_pixels_or_tokens(
        self, checkpoint: Path, tmp_path: Path, own_templates: Path, file: str, right: str, wrong: str, message: str
    ) -> None:
        replace_in(own_templates / file, right, wrong)
        output = tmp_path / "builds" / "out"
        self._assert_refused(checkpoint, output, message)


class TestCosinesAreBlind:
    """What the parity tests would miss if they looked at cosines: the reference itself, with one thing wrong."""

    def _compare(self, got: Tensor, expected: Tensor) -> tuple[float, float]:
        """The smallest cosine and the largest difference of a component."""
        got, expected = (nn.functional.normalize(vectors, dim=-1) for vectors in (got, expected))
        return float((got * expected).sum(dim=-1).min()), float((got - expected).abs().max())

    def test_bilinear_for_bicubic(self, checkpoint: Path) -> None:
        loaded = open_checkpoint(str(checkpoint))
        right, wrong = [], []
        for name in PHOTOGRAPHS:
            with Image.open(sample(name)) as image:
                for pixels, filtering in ((right, Image.Resampling.BICUBIC), (wrong, Image.Resampling.BILINEAR)):
                    pixels.append(np.asarray(image.resize((64, 64), filtering).convert("RGB")).transpose(2, 0, 1))
        embeddings = [
            loaded.reference.embed_images(normalised(torch.from_numpy(np.stack(pixels)), loaded.preprocessing))
            for pixels in (wrong, right)
        ]
        cosine, difference = self._compare(*embeddings)
        assert cosine > 0.98
        assert difference > 1e-3

    def test_a_mask_that_lets_one_padding_token_through(self, checkpoint: Path) -> None:
        reference = open_checkpoint(str(checkpoint)).reference
        ids = torch.tensor([reference.tokenize("一只可爱的橘猫在沙发上睡觉，旁边有一只小狗", 52)])
        padded = nn.functional.pad(ids, (0, 1))
        cosine, difference = self._compare(
            reference.embed_texts(padded, torch.ones_like(padded)), reference.embed_texts(ids, torch.ones_like(ids))
        )
        assert cosine > 0.98
        assert difference > 1e-3


class TestOtherFamilies:
    def test_a_text_tower_that_looks_ahead(self, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def without_causal_mask(checkpoint: Checkpoint, precision: Precision) -> nn.Module:
            encoder = text_encoder(checkpoint, precision)
            encoder.tower.causal.fill_(1)  # type: ignore[union-attr, operator]
            return encoder

        monkeypatch.setattr(repository_module, "text_encoder", without_causal_mask)
        with pytest.raises(VerificationError, match="exported text encoder differs"):
            build_repository(str(clip), tmp_path / "out")

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
    def test_other_rules_for_pixels_or_tokens(
        self, clip: Path, tmp_path: Path, own_templates: Path, file: str, right: str, wrong: str, message: str
    ) -> None:
        replace_in(own_templates / file, right, wrong)
        with pytest.raises(VerificationError, match=message):
            build_repository(str(clip), tmp_path / "out")

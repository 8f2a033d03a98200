"""The bounds that a build must meet, and faults that show why bounds are on components and not on cosines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tuwen_build.checkpoints import open_checkpoint
from tuwen_build.verification.reference import normalised
from tuwen_build.verification.verify import bound
from tuwen_repository.samples import PHOTOGRAPHS, sample


def test_bounds_grow_with_depth_and_roundoff() -> None:
    assert bound("fp32", 48).max_abs == 1e-5
    assert bound("bf16", 12).distance == pytest.approx(8 * bound("fp16", 12).distance)
    assert bound("int8", 12).distance == pytest.approx(2 * bound("bf16", 12).distance)
    assert bound("bf16", 12).distance < bound("bf16", 24).distance < 0.12


class TestCosinesAreBlind:
    """Faults that cosines do not show. Each test puts one fault into the input of the reference.

    The cosines of right and wrong vectors stay above 0.98, but a component differs by more than 0.001.
    """

    def assert_only_a_component_shows_it(self, got: Tensor, expected: Tensor) -> None:
        got, expected = (nn.functional.normalize(vectors, dim=-1) for vectors in (got, expected))
        assert float((got * expected).sum(dim=-1).min()) > 0.98
        assert float((got - expected).abs().max()) > 1e-3

    def test_bilinear_instead_of_bicubic_shows_in_a_component_only(self, checkpoint: Path) -> None:
        loaded = open_checkpoint(str(checkpoint))
        vectors = {}
        for filtering in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR):
            pixels = []
            for name in PHOTOGRAPHS:
                with Image.open(sample(name)) as image:
                    pixels.append(np.asarray(image.resize((64, 64), filtering).convert("RGB")).transpose(2, 0, 1))
            batch = normalised(torch.from_numpy(np.stack(pixels)), loaded.preprocessing)
            vectors[filtering] = loaded.reference.embed_images(batch)
        self.assert_only_a_component_shows_it(vectors[Image.Resampling.BILINEAR], vectors[Image.Resampling.BICUBIC])

    def test_a_padding_token_behind_the_mask_shows_in_a_component_only(self, checkpoint: Path) -> None:
        reference = open_checkpoint(str(checkpoint)).reference
        ids = torch.tensor([reference.tokenize("一只可爱的橘猫在沙发上睡觉，旁边有一只小狗", 52)])
        padded = nn.functional.pad(ids, (0, 1))
        self.assert_only_a_component_shows_it(
            reference.embed_texts(padded, torch.ones_like(padded)), reference.embed_texts(ids, torch.ones_like(ids))
        )

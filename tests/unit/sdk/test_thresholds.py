"""Saved thresholds. A threshold accepts or rejects pictures only in its own embedding space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.collections import picture
from tuwen import Client, EmbeddingSpaceError, InvalidArgumentError, Threshold
from tuwen.testing import FakeTransport


def test_a_saved_threshold_judges_pictures_of_its_own_model_only(tmp_path: Path) -> None:
    path = tmp_path / "cat.json"
    with Client(transport=FakeTransport()) as clip:
        Threshold(("一只猫", "猫咪"), 0.3, clip.model_card().fingerprint, "tiny").save(path, wanted={"recall": 0.9})
        loaded = Threshold.load(path)
        mean = clip.embed_texts(["一只猫", "猫咪"]).mean(axis=0)
        expected = clip.embed_images([picture(1)]) @ (mean / np.linalg.norm(mean))
        np.testing.assert_allclose(loaded.scores(clip, [picture(1)]), expected, atol=1e-6)
        with pytest.raises(EmbeddingSpaceError, match="calibrated with tiny"):
            Threshold(("猫",), 0.3, "1" * 32, "tiny").scores(clip, [picture(1)])
    assert [file.name for file in tmp_path.iterdir()] == ["cat.json"]


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"tuwen_threshold": 1, "texts": ["a"], "cosine": "x"}'])
def test_refuses_a_file_that_is_not_a_threshold(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "x.json").write_text(content, encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match=r"cannot read '.*x\.json'"):
        Threshold.load(tmp_path / "x.json")

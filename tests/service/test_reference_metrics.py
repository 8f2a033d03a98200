"""The recalls of `tuwen evaluate` equal those of Chinese-CLIP's own scripts on the same features."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.originals import Originals
from tuwen_lab.evaluation import Features, read_features, retrieval_report

Truths = Mapping[int, Sequence[int]]


def unit(count: int, dimension: int = 16, seed: int = 0) -> NDArray[np.float32]:
    made = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    vectors: NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return vectors


def write_features(path: Path, kind: str, features: Features) -> None:
    lines = [
        json.dumps({f"{kind}_id": number, "feature": vector.tolist()})
        for number, vector in zip(features.ids, features.vectors, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def several_truths() -> tuple[Features, Features, Truths]:
    """Return features with five texts per image, texts with two images, images without a text, and unsorted ids."""
    images = Features(np.random.default_rng(1).permutation(5000)[:120].tolist(), unit(120))
    near = np.repeat(images.vectors[:100], 5, axis=0) + 2 * unit(500, seed=2)
    texts = Features(list(range(900, 1400)), (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32))
    truths = {text: [images.ids[index // 5]] for index, text in enumerate(texts.ids)}
    for index in range(0, 500, 7):
        truths[texts.ids[index]] = [images.ids[(index // 5 + 1) % 100], images.ids[index // 5]]
    return images, texts, truths


def ties() -> tuple[Features, Features, Truths]:
    """Return features with many equal vectors. Of equal scores, the picture that is first in the file ranks higher."""
    vectors = unit(12)
    images = Features(list(range(60, 0, -1)), np.tile(vectors, (5, 1)))
    texts = Features(list(range(100, 160)), np.tile(vectors, (5, 1)))
    truths = {text: [images.ids[(index * 17) % 60]] for index, text in enumerate(texts.ids)}
    return images, texts, truths


def coarse() -> tuple[Features, Features, Truths]:
    """Return features with few distinct values, so that different vectors often have equal scores."""
    choice = np.random.default_rng(5)
    images = Features(list(range(200)), choice.integers(-1, 2, (200, 8)).astype(np.float32) / 2)
    texts = Features(list(range(300)), choice.integers(-1, 2, (300, 8)).astype(np.float32) / 2)
    return images, texts, {text: choice.choice(200, 3, replace=False).tolist() for text in range(300)}


@pytest.mark.parametrize("made", [several_truths, ties, coarse], ids=lambda made: made.__name__)
def test_recall_equals_that_of_chinese_clips_scripts(
    made: Callable[[], tuple[Features, Features, Truths]], tmp_path: Path, originals: Originals
) -> None:
    images, texts, truths = made()
    write_features(tmp_path / "images.jsonl", "image", images)
    write_features(tmp_path / "texts.jsonl", "text", texts)
    lines = [json.dumps({"text_id": text, "text": "", "image_ids": list(wanted)}) for text, wanted in truths.items()]
    (tmp_path / "test_texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = originals.recall(tmp_path)
    report = retrieval_report(
        read_features(tmp_path / "images.jsonl", "image"), read_features(tmp_path / "texts.jsonl", "text"), truths
    )
    for name, measured in (("ir", report.text_to_image), ("tr", report.image_to_text)):
        assert expected[name]["success"]
        scores = expected[name]["scoreJson"]
        for theirs, ours in (("r1", measured.r1), ("r5", measured.r5), ("r10", measured.r10)):
            assert ours == pytest.approx(scores[theirs], abs=1e-9)
        assert measured.mean == pytest.approx(scores["mean_recall"], abs=1e-9)
    assert 0 < report.text_to_image.r1 < report.text_to_image.r10 <= 100

"""The evaluation of models: recall, zero-shot classification, and the reading of their data sets.

`tests/service/test_reference_metrics.py` compares recall with Chinese-CLIP's own scripts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tuwen import Client, InvalidArgumentError
from tuwen.testing import FakeTransport
from tuwen_lab.datasets import ClassFolder, RetrievalSplit
from tuwen_lab.evaluation import (
    PUBLISHED,
    Features,
    embed_split,
    evaluate_zero_shot,
    recall,
    top_candidates,
    zero_shot_report,
)
from tuwen_lab.evaluation._features import read_features
from tuwen_repository.samples import sample

Truths = Mapping[int, Sequence[int]]


def unit(count: int, dimension: int = 16, seed: int = 0) -> NDArray[np.float32]:
    made = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    vectors: NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return vectors


def test_the_best_candidates_equal_those_of_a_stable_sort() -> None:
    choice = np.random.default_rng(3)
    queries = choice.integers(-2, 3, (40, 6)).astype(np.float32)
    candidates = choice.integers(-2, 3, (500, 6)).astype(np.float32)
    expected = [sorted(range(500), key=lambda index: -line[index])[:10] for line in (queries @ candidates.T).tolist()]
    assert top_candidates(queries, candidates).tolist() == expected


def test_recall_at_ten_of_fewer_than_ten_candidates() -> None:
    few = Features([1, 2, 3], unit(3))
    result = recall(few, few, {1: [1], 2: [2], 3: [7]})
    assert (result.r1, result.r10, result.queries) == (pytest.approx(200 / 3), pytest.approx(200 / 3), 3)


@pytest.mark.parametrize("truths", [{}, {9: [1]}], ids=["no truths", "a query without a vector"])
def test_recall_without_truths_or_vectors_is_refused(truths: Truths) -> None:
    few = Features([1, 2, 3], unit(3))
    with pytest.raises(InvalidArgumentError):
        recall(few, few, truths)


def test_a_repeated_id_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="the id 2 is repeated"):
        Features([1, 2, 2], unit(3))


class TestSplit:
    @pytest.fixture
    def split(self, tmp_path: Path) -> Path:
        photo = sample("cat.jpg").read_bytes()
        encoded = [base64.b64encode(photo).decode(), base64.urlsafe_b64encode(photo).decode()]
        (tmp_path / "test_imgs.tsv").write_text("".join(f"{n}\t{c}\n" for n, c in enumerate(encoded)), encoding="ascii")
        lines = [{"text_id": 5, "text": "“猫”A", "image_ids": [0]}, {"text_id": 6, "text": "狗", "image_ids": [1, 0]}]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (tmp_path / "test_texts.jsonl").write_text(text, encoding="utf-8")
        return tmp_path

    def test_a_split_in_the_format_of_chinese_clip_is_read(self, split: Path) -> None:
        data = RetrievalSplit(split)
        assert [number for number, _ in data.images()] == [0, 1]
        assert {content for _, content in data.images()} == {sample("cat.jpg").read_bytes()}
        assert data.texts() == [(5, "“猫”A"), (6, "狗")]
        assert data.truths() == {5: [0], 6: [1, 0]}

    @pytest.mark.parametrize(("family", "sent"), [("chinese-clip", '"猫"a'), ("openai-clip", "“猫”A")])
    def test_texts_are_prepared_as_in_the_familys_evaluation(self, split: Path, family: str, sent: str) -> None:
        from dataclasses import replace

        fake = FakeTransport()
        fake.card = replace(fake.card, family=family)
        with Client(transport=fake) as clip:
            images, texts = embed_split(clip, RetrievalSplit(split))
        assert list(images.ids) == [0, 1]
        assert list(texts.ids) == [5, 6]
        assert fake.requests[-1].items == (sent.encode(), "狗".encode())

    def test_the_error_for_a_missing_split_names_the_existing_splits(self, split: Path) -> None:
        with pytest.raises(InvalidArgumentError, match="valid_imgs.tsv is missing; splits here: test"):
            RetrievalSplit(split, "valid")

    @pytest.mark.parametrize("line", ["no tab", "x\tAAAA", "7\t!!!"])
    def test_a_broken_line_of_images_is_named(self, split: Path, line: str) -> None:
        (split / "test_imgs.tsv").write_text(f"0\tAAAA\n{line}\n", encoding="ascii")
        with pytest.raises(InvalidArgumentError, match="test_imgs.tsv, line 2"):
            list(RetrievalSplit(split).images())

    @pytest.mark.parametrize("line", ["no json", '{"text_id": 1}', '{"text_id": "x", "text": ""}', "[]"])
    def test_a_broken_line_of_texts_is_named(self, split: Path, line: str) -> None:
        (split / "test_texts.jsonl").write_text(line + "\n", encoding="utf-8")
        with pytest.raises(InvalidArgumentError, match="test_texts.jsonl', line 1"):
            RetrievalSplit(split).texts()

    def test_a_split_without_public_answers_is_refused(self, split: Path) -> None:
        (split / "test_texts.jsonl").write_text('{"text_id": 1, "text": "猫"}\n', encoding="utf-8")
        with pytest.raises(InvalidArgumentError, match="answers of this split are not public"):
            RetrievalSplit(split).truths()

    def test_a_refused_image_ends_the_evaluation_of_a_dataset(self, split: Path) -> None:
        (split / "test_imgs.tsv").write_text("3\tAAAA\n", encoding="ascii")
        with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="rejected image 3 "):
            embed_split(clip, RetrievalSplit(split))


class TestZeroShot:
    def test_the_report_counts_correct_labels_in_total_and_per_class(self) -> None:
        labels = np.eye(6, dtype=np.float32)
        images = np.stack([labels[0], labels[0], labels[1], labels[2]]) + 0.01 * unit(4, 6)
        report = zero_shot_report(images.astype(np.float32), [0, 1, 1, 2], labels, list("abcdef"))
        assert report.top1 == 75
        assert report.images == 4
        assert report.mean_per_class == pytest.approx((100 + 50 + 100) / 3)
        assert report.confusion[1].tolist() == [1, 1, 0, 0, 0, 0]
        assert report.top5 >= report.top1

    def test_a_folder_of_classes_is_evaluated_with_all_templates(self, tmp_path: Path) -> None:
        for name in ("cat", "coffee"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.jpg").write_bytes(sample(f"{name}.jpg").read_bytes())
        (tmp_path / "label_cn.txt").write_text("猫\n咖啡\n", encoding="utf-8")
        dataset = ClassFolder(tmp_path, tmp_path / "label_cn.txt")
        assert dataset.labels == ["猫", "咖啡"]
        fake = FakeTransport()
        with Client(transport=fake) as clip:
            report = evaluate_zero_shot(clip, dataset, ["{}", "一张{}的照片"])
        assert report.images == 2
        assert report.labels == ("猫", "咖啡")
        texts = {item.decode() for request in fake.requests for item in request.items if request.input_name == "text"}
        assert texts == {"猫", "一张猫的照片", "咖啡", "一张咖啡的照片"}

    @pytest.mark.parametrize("labels", ["猫\n", "猫\n猫\n"])
    def test_too_few_or_repeated_labels_are_refused(self, tmp_path: Path, labels: str) -> None:
        for name in ("cat", "coffee"):
            (tmp_path / name).mkdir()
        (tmp_path / "label_cn.txt").write_text(labels, encoding="utf-8")
        with pytest.raises(InvalidArgumentError):
            ClassFolder(tmp_path, tmp_path / "label_cn.txt")


def test_published_recalls_have_the_published_mean() -> None:
    """The mean of the three published recalls on MUGE equals the mean recall that Chinese-CLIP's authors publish."""
    means = {"RN50": 63.0, "ViT-B-16": 71.1, "ViT-L-14": 74.1, "ViT-L-14-336": 76.1, "ViT-H-14": 78.8}
    for name, mean in means.items():
        assert sum(PUBLISHED[name]["muge"].text_to_image) / 3 == pytest.approx(mean, abs=0.051)


@pytest.mark.parametrize(
    "line",
    [
        '{"image_id": 1.9, "feature": [1, 2]}',
        '{"image_id": true, "feature": [1, 2]}',
        '{"image_id": 1, "feature": [1, NaN]}',
        '{"image_id": 1, "feature": [1, null]}',
        '{"image_id": 1, "feature": [1, 1e39]}',
    ],
)
def test_feature_files_must_hold_integer_ids_and_finite_numbers(tmp_path: Path, line: str) -> None:
    file = tmp_path / "features.jsonl"
    file.write_text(f'{{"image_id": 2, "feature": [1, 2]}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InvalidArgumentError, match=r"features.jsonl', line 2: expected"):
        read_features(file, "image")


def test_feature_files_must_hold_vectors_of_one_dimension(tmp_path: Path) -> None:
    file = tmp_path / "features.jsonl"
    for lines, got in (
        ('{"image_id": 1, "feature": [1]}\n{"image_id": 2, "feature": [1, 2]}', "shapes"),
        ("", "no lines"),
    ):
        file.write_text(lines, encoding="utf-8")
        with pytest.raises(InvalidArgumentError, match=f"expected vectors of one length, got .*{got}"):
            read_features(file, "image")

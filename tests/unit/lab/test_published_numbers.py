"""Comparisons with published numbers: the data sets that are found, and the differences that are allowed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.support.stand_in_hub import stand_in_hub
from tuwen_lab.evaluation import PUBLISHED, PublishedRecall, Recall, RetrievalReport
from tuwen_lab.published import CHECKPOINTS, Check, HubUnreachableError, fetch_picture, main, splits_at_hand
from tuwen_lab.published._checks import recall_checks


def test_a_number_holds_within_its_tolerance() -> None:
    assert Check("name", 0.5, 0.50009, 1e-4).holds
    assert not Check("name", 0.5, 0.50011, 1e-4).holds
    assert not Check("name", 0.5, math.nan, 1e-4).holds
    assert str(Check("name", 0.5, 0.6, 1e-4)) == "name: published 0.5, served 0.6: DIFFERS by more than 0.0001"


def test_each_published_recall_is_compared() -> None:
    published = PublishedRecall((52.1, 76.7, 84.4), (57.0, 84.1, 93.6))
    report = RetrievalReport(Recall(52.3, 76.7, 83.8, 10), Recall(57.0, 84.1, 93.6, 10), images=5, texts=10)
    checks = list(recall_checks("coco-cn", published, report))
    assert [check.name for check in checks[:2]] == ["coco-cn, text to image, R@1", "coco-cn, text to image, R@5"]
    assert [check.holds for check in checks] == [True, True, False, True, True, True]


def test_a_direction_that_is_not_published_is_not_compared() -> None:
    report = RetrievalReport(Recall(52.1, 76.7, 84.4, 10), Recall(0, 0, 0, 10), images=5, texts=10)
    checks = list(recall_checks("muge", PUBLISHED["ViT-B-16"]["muge"], report))
    assert [check.published for check in checks] == [52.1, 76.7, 84.4]


def test_data_sets_are_found_by_their_names_in_any_case(tmp_path: Path) -> None:
    for folder, split in (("MUGE", "valid"), ("COCO-CN", "test"), ("Flickr30k-CN", "train"), ("other", "test")):
        (tmp_path / folder).mkdir()
        for name in (f"{split}_imgs.tsv", f"{split}_texts.jsonl"):
            (tmp_path / folder / name).touch()
    assert set(splits_at_hand(tmp_path, "ViT-B-16")) == {"muge", "coco-cn"}
    assert splits_at_hand(tmp_path, "ViT-B-32") == {}
    assert splits_at_hand(None, "ViT-B-16") == {}


def test_each_checkpoint_has_published_recalls_and_one_has_an_example() -> None:
    assert {checkpoint.architecture for checkpoint in CHECKPOINTS} == set(PUBLISHED)
    [example] = [checkpoint.example for checkpoint in CHECKPOINTS if checkpoint.example]
    assert sum(example.probabilities.values()) == pytest.approx(1, abs=1e-4)


def test_the_picture_comes_from_the_first_address_that_answers() -> None:
    with stand_in_hub({}, {"/picture.jpg": b"content"}) as hub:
        missing, there = f"{hub.url}/missing.jpg", f"{hub.url}/picture.jpg"
        assert fetch_picture([missing, there]) == b"content"
        with pytest.raises(HubUnreachableError, match=r"missing\.jpg: HTTP Error 404.*127\.0\.0\.1:9"):
            fetch_picture([missing, "http://127.0.0.1:9/picture.jpg"])


def test_options_that_name_missing_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--data", str(tmp_path / "missing")])
    assert ended.value.code == 2
    assert "--data: expected a folder, got" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--picture", str(tmp_path)])
    assert "--picture: expected a file, got" in capsys.readouterr().err

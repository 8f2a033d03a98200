"""Small data sets: a training reduces its settings and says so, and an evaluation notices an unexpected size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import tuwen
from tests.support.shapes import write_shapes
from tuwen_lab.evaluation import PUBLISHED, published_difference
from tuwen_lab.training._batches import fitting_batch_size
from tuwen_lab.training._optimizer import fitting_warmup, learning_rate_at


@pytest.mark.parametrize(
    ("size", "pictures", "fitting"),
    [(128, 10_000, 128), (128, 128, 128), (128, 120, 15), (128, 24, 8), (128, 5, 5), (16, 48, 16)],
)
def test_an_epoch_of_few_pictures_has_several_steps(size: int, pictures: int, fitting: int) -> None:
    assert fitting_batch_size(size, pictures) == fitting


@pytest.mark.parametrize(("warmup", "steps", "fitting"), [(100, 1000, 100), (100, 200, 100), (100, 80, 8), (100, 3, 0)])
def test_a_warm_up_leaves_most_of_a_stage(warmup: int, steps: int, fitting: int) -> None:
    assert fitting_warmup(warmup, steps) == fitting
    assert max(learning_rate_at(step, steps, warmup, 1.0) for step in range(steps)) == 1.0


def test_the_command_reports_the_settings_that_it_reduced(checkpoint: Path, tmp_path: Path) -> None:
    data = write_shapes(tmp_path)
    options = ("--checkpoint", str(checkpoint), "--frozen-epochs", "0", "--epochs", "1", "--warmup-steps", "9")
    told = tuwen("train", str(data), "-o", str(tmp_path / "trained"), *options, "--batch-size", "1000").stderr
    assert "little data: the batch size of 1000 exceeds the 48 pictures: using 8" in told
    assert "9 warm-up steps exceed half of the 6 steps of the stage 'whole': using 0" in told
    assert "the training has only 6 steps: raise --epochs" in told


def test_every_benchmark_with_published_numbers_has_a_size() -> None:
    for benchmark in {name for benchmarks in PUBLISHED.values() for name in benchmarks}:
        assert published_difference(benchmark, "train", 1, 1) is not None


def test_data_of_another_size_than_the_published_set_is_noticed() -> None:
    assert published_difference("flickr30k-cn", "test", 1000, 5000) is None
    assert published_difference("muge", "valid", 30_000, 5008) is None
    assert published_difference("coco-cn", "test", 24, 30) == (
        "the published numbers are of the split 'test' of coco-cn with 1,000 images and 1,053 texts, and this "
        "is 'test' with 24 images and 30 texts: the difference says nothing about the model"
    )

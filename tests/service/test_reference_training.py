"""A training step has the same loss, gradients and weight decay as a step in cn_clip."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from transformers import ChineseCLIPModel

from tests.reference.native_names import native_names
from tests.support.originals import Originals, content_hash
from tuwen_lab.training import Stage
from tuwen_lab.training._batches import Batch
from tuwen_lab.training._model import TwoTowers
from tuwen_lab.training._optimizer import Optimizer
from tuwen_lab.training._step import Stepper

SEED, COUNT = 20, 6
TOLERANCE = 1e-5
TEXTS = [[101, *range(1000 + 10 * row, 1003 + 11 * row), 102] for row in range(COUNT)]


class Step(NamedTuple):
    """The result of a training step in cn_clip.

    Attributes:
        loss: the loss of the batch.
        gradients: the gradient of each weight, by cn_clip's name of the weight.
        without_decay: cn_clip's names of the weights without weight decay.
    """

    loss: float
    gradients: dict[str, torch.Tensor]
    without_decay: set[str]


@pytest.fixture(scope="module")
def batch(minimal_checkpoint: Path) -> Batch:
    """Return a batch of six pictures of random pixels and six texts of different lengths."""
    config = json.loads((minimal_checkpoint / "config.json").read_text(encoding="utf-8"))
    side, length = config["vision_config"]["image_size"], max(map(len, TEXTS))
    generator = torch.Generator().manual_seed(SEED)
    pixels = torch.randn(COUNT, 3, side, side, generator=generator)
    input_ids = torch.tensor([text + [0] * (length - len(text)) for text in TEXTS])
    return Batch(
        pixels,
        input_ids,
        (input_ids != 0).long(),
        fits=torch.eye(COUNT, dtype=torch.bool),
        groups=torch.arange(COUNT),
        caption_groups=torch.eye(COUNT),
    )


@pytest.fixture(scope="module")
def step(
    minimal_checkpoint: Path, batch: Batch, originals: Originals, tmp_path_factory: pytest.TempPathFactory
) -> Step:
    """Return the result of cn_clip's training step with the minimal checkpoint and the batch."""
    inputs = tmp_path_factory.mktemp("step") / "inputs.npz"
    np.savez(inputs, pixels=batch.pixels.numpy(), input_ids=batch.input_ids.numpy())
    decides = {"checkpoint": content_hash(minimal_checkpoint), "inputs": content_hash(inputs)}
    arguments = {"checkpoint": str(minimal_checkpoint), "inputs": str(inputs)}
    folder = originals.result("cn_clip", "training_step", decides, **arguments)
    told = json.loads((folder / "step.json").read_text(encoding="utf-8"))
    with np.load(folder / "gradients.npz") as file:
        gradients = {name: torch.from_numpy(file[name]) for name in file.files}
    return Step(told["loss"], gradients, set(told["without_decay"]))


@pytest.fixture
def towers(minimal_checkpoint: Path) -> TwoTowers:
    """Return the towers of the minimal checkpoint, ready for training, but without dropout."""
    return TwoTowers(ChineseCLIPModel.from_pretrained(minimal_checkpoint)).eval()


@pytest.mark.parametrize("parts", [1, 4])
def test_loss_and_gradients_equal_those_of_cn_clip(towers: TwoTowers, batch: Batch, step: Step, parts: int) -> None:
    loss = Stepper(towers, None, lambda pixels: pixels, nullcontext, parts).backward(batch, Stage("both", 1, 1e-3))
    assert loss == pytest.approx(step.loss, abs=TOLERANCE)
    gradients = native_names(
        {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in towers.clip.named_parameters()}
    )
    assert gradients.keys() >= step.gradients.keys()
    assert sum(float(expected.abs().max()) > 100 * TOLERANCE for expected in step.gradients.values()) > 20
    for name, expected in step.gradients.items():
        bound = TOLERANCE * max(1.0, float(expected.abs().max()))  # float32 has about seven significant digits
        difference = float((gradients[name] - expected).abs().max())
        assert difference <= bound, f"{name}: {difference}"


def test_weight_decay_differs_from_cn_clip_only_in_norms_and_the_class_embedding(towers: TwoTowers, step: Step) -> None:
    """Only BERT's layer norms and the class embedding have another weight decay than in cn_clip.

    cn_clip chooses the weights without decay by name, and misses these two kinds. Here, they have no weight decay.
    """
    [(optimizer, _)] = Optimizer([towers], "adamw", 0.1)._parts
    decay = {id(one): group["weight_decay"] for group in optimizer.param_groups for one in group["params"]}
    marks = native_names(
        {name: torch.full_like(one, decay[id(one)]) for name, one in towers.clip.named_parameters() if id(one) in decay}
    )
    without_decay = {name for name, mark in marks.items() if not mark.any()}
    norms = {name for name in marks if "LayerNorm.weight" in name}
    assert len(norms) == 5
    assert without_decay == (step.without_decay & marks.keys()) | norms | {"visual.class_embedding"}

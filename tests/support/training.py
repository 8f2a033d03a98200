"""Options of `tuwen train` with which a small model learns the data set of `tests.support.shapes`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["from_random_weights"]

_SETTINGS = (
    "--recipe=artwork",
    "--optimizer=muon",
    "--batch-size=24",
    "--start-learning-rate=1e-3",
    "--learning-rate=1e-3",
    "--warmup-steps=5",
    "--kept-patches=0.75",
    "--evaluate-every=6",
    "--precision=fp32",
    "--patience=0",
)


def from_random_weights(
    shapes: Path, output: Path, *, start_epochs: int, frozen_epochs: int, epochs: int
) -> tuple[str, ...]:
    """Return the arguments of `tuwen` for a training in three stages, which begins with random weights.

    Args:
        shapes: the folder of the data set.
        output: the output folder of the training.
        start_epochs, frozen_epochs, epochs: the number of epochs of each stage.
    """
    lengths = (f"--start-epochs={start_epochs}", f"--frozen-epochs={frozen_epochs}", f"--epochs={epochs}")
    architecture = ("--architecture", str(shapes / "architecture.json"))
    return ("train", str(shapes), "-o", str(output), *architecture, *_SETTINGS, *lengths)

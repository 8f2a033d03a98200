"""Settings with which a small model learns the shapes of `tests.support.shapes`."""

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
    """Return the arguments of `tuwen train` for a training in three stages."""
    lengths = (f"--start-epochs={start_epochs}", f"--frozen-epochs={frozen_epochs}", f"--epochs={epochs}")
    architecture = ("--architecture", str(shapes / "architecture.json"))
    return ("train", str(shapes), "-o", str(output), *architecture, *_SETTINGS, *lengths)

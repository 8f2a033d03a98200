"""What is kept of a training while it runs, so that it can go on after an interruption."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tuwen import InvalidArgumentError

__all__ = [
    "Evaluation",
    "History",
    "Progress",
    "load_state",
    "save_state",
]


@dataclass(frozen=True)
class Evaluation:
    """A look at the validation split.

    Attributes:
        step: of the whole training, after which it was.
        text_to_image, image_to_text: R@1, R@5 and R@10, in percent.
    """

    step: int
    text_to_image: tuple[float, float, float]
    image_to_text: tuple[float, float, float]

    @property
    def mean(self) -> float:
        """The mean of all six, which decides what is best."""
        return sum(self.text_to_image + self.image_to_text) / 6


@dataclass
class History:
    """What was measured.

    Attributes:
        losses: (step, mean loss since the last entry).
        evaluations: in the order of their steps.
        stages: (name, first step).
    """

    losses: list[tuple[int, float]] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    stages: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Progress:
    """Where a training is.

    Attributes:
        stage: position of the stage.
        step: steps of it that are done.
        done: steps of the stages before.
        since_best: looks in a row without a better recall.
        history: what was measured.
    """

    stage: int = 0
    step: int = 0
    done: int = 0
    since_best: int = 0
    history: History = field(default_factory=History)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Progress:
        """The reverse of `dataclasses.asdict`."""
        history = content["history"]
        evaluations = [Evaluation(**look) for look in history["evaluations"]]
        return cls(**{**content, "history": History(**{**history, "evaluations": evaluations})})


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the file in one go: an interruption, be it of the machine, leaves the old file whole."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load_state(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What `save_state` wrote.

    Raises:
        InvalidArgumentError: the file is broken, or of a training with other settings.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's and zipfile's
        raise InvalidArgumentError(f"{path} is no state of a training: {error}") from error
    if changed := sorted(name for name, value in settings.items() if state["settings"].get(name) != value):
        raise InvalidArgumentError(
            f"{path} is of a training with other settings: {', '.join(changed)}; give the same, or leave out --resume"
        )
    return state

"""The saved state of a running training, from which an interrupted training resumes."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tuwen import InvalidArgumentError, TuwenError
from tuwen_files.disk_space import is_disk_full, os_reason

__all__ = [
    "Evaluation",
    "History",
    "Progress",
    "TrainingStateError",
    "load_state",
    "save_state",
]


class TrainingStateError(TuwenError):
    """The state of a training cannot be saved."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation on the validation split.

    Attributes:
        step: the number of steps of the whole training before the evaluation.
        text_to_image, image_to_text: R@1, R@5 and R@10, in percent.
    """

    step: int
    text_to_image: tuple[float, float, float]
    image_to_text: tuple[float, float, float]

    @property
    def mean(self) -> float:
        """The mean of all six recalls, by which the best weights are chosen."""
        return sum(self.text_to_image + self.image_to_text) / 6


@dataclass
class History:
    """The measurements of a training.

    Attributes:
        losses: pairs of a step and the mean loss since the previous pair.
        evaluations: the evaluations in the order of their steps.
        stages: pairs of a stage's name and its first step.
    """

    losses: list[tuple[int, float]] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    stages: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        stage: the index of the current stage.
        step: the number of finished steps of the stage.
        done: the number of steps in all earlier stages.
        since_best: the number of evaluations since the best recall.
        history: the measurements.
    """

    stage: int = 0
    step: int = 0
    done: int = 0
    since_best: int = 0
    history: History = field(default_factory=History)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Progress:
        """Return the progress from a dictionary that `dataclasses.asdict` made."""
        history = content["history"]
        evaluations = [Evaluation(**look) for look in history["evaluations"]]
        return cls(**{**content, "history": History(**{**history, "evaluations": evaluations})})


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace the state's file atomically. If the process or the machine fails meanwhile, the old file remains.

    Raises:
        TrainingStateError: the file cannot be written.
    """
    part = path.with_suffix(".part")
    try:
        with _CheckedFile(part, "wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                raise file.error or error from error
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        reason = "the disk is full; free some space" if is_disk_full(error) else os_reason(error)
        again = "run the same command with --resume" if path.is_file() else "start again"
        raise TrainingStateError(f"cannot save the training in '{path.parent}': {reason}, then {again}") from error
    finally:
        part.unlink(missing_ok=True)


class _CheckedFile(io.FileIO):
    """A file that keeps the error of a write, which torch replaces by an error without a reason (torch 2.13)."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            rest = memoryview(data).cast("B")
            while rest:  # an unbuffered file may take a part
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
            raise
        return memoryview(data).nbytes


def load_state(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Read a state that `save_state` wrote.

    Raises:
        InvalidArgumentError: the file is damaged, or belongs to a training with other settings.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's and zipfile's
        raise InvalidArgumentError(f"cannot read '{path}' as the state of a training: {error}") from error
    if changed := sorted(name for name, value in settings.items() if state["settings"].get(name) != value):
        raise InvalidArgumentError(
            f"{path} belongs to a training with other settings: {', '.join(changed)}; use the same settings, or leave "
            "out --resume"
        )
    return state

"""Copies of a repository whose encoders raise an error on one chosen item, as if memory had run out."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["FAILURE", "with_failing_encoders"]

FAILURE = "induced failure"
"""The message of the error that a failing encoder raises."""


class _FailingVision(torch.nn.Module):
    """A wrapper of the image tower that raises an error if a batch contains the chosen image."""

    def __init__(self, tower: Any, chosen: torch.Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("chosen", chosen)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if bool((pixel_values == self.chosen).flatten(1).all(1).any()):
            raise RuntimeError("induced failure: the test made this encoder fail")
        embedding: torch.Tensor = self.tower(pixel_values)
        return embedding


class _FailingText(torch.nn.Module):
    """A wrapper of the text tower that raises an error if a batch contains the chosen text."""

    def __init__(self, tower: Any, chosen: torch.Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("chosen", chosen)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if bool((input_ids == self.chosen).all(1).any()):
            raise RuntimeError("induced failure: the test made this encoder fail")
        embedding: torch.Tensor = self.tower(input_ids, attention_mask)
        return embedding


def with_failing_encoders(
    repository: Path, folder: Path, *, pixel_values: NDArray[np.uint8], input_ids: NDArray[np.int64]
) -> Path:
    """Copy a repository, and make each encoder fail on one item. The whole batch that contains the item fails.

    Args:
        repository: the folder of the built repository, which is not changed.
        folder: the folder of the copy, which must not exist yet.
        pixel_values: the image on which the vision encoder fails, uint8 with the shape (3, S, S).
        input_ids: the token ids of the text on which the text encoder fails, int64 with the shape (1, L).

    Returns:
        The folder of the copy. Serve it with ``check_files=False``, because its weights differ from the manifest's.
    """
    shutil.copytree(repository, folder)
    for model, wrapper, chosen in (
        ("vision_encoder", _FailingVision, torch.from_numpy(pixel_values)),
        ("text_encoder", _FailingText, torch.from_numpy(input_ids)),
    ):
        path = folder / model / "1" / "model.pt"
        path.chmod(0o644)  # cached artefacts are read-only
        path.parent.chmod(0o755)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated, but Triton needs it
            torch.jit.save(torch.jit.script(wrapper(torch.jit.load(path), chosen).eval()), path)
    return folder

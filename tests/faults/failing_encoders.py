"""A copy of a repository whose encoders fail on one chosen item, as on a processor that runs out of memory."""

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
"""What the error of a failing encoder says."""


class _FailingVision(torch.nn.Module):
    """The image tower, which raises if one of the images is the chosen one."""

    def __init__(self, tower: Any, chosen: torch.Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("chosen", chosen)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if bool((pixel_values == self.chosen).flatten(1).all(1).any()):
            raise RuntimeError("induced failure")
        embedding: torch.Tensor = self.tower(pixel_values)
        return embedding


class _FailingText(torch.nn.Module):
    """The text tower, which raises if one of the texts is the chosen one."""

    def __init__(self, tower: Any, chosen: torch.Tensor) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("chosen", chosen)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if bool((input_ids == self.chosen).all(1).any()):
            raise RuntimeError("induced failure")
        embedding: torch.Tensor = self.tower(input_ids, attention_mask)
        return embedding


def with_failing_encoders(
    repository: Path, folder: Path, *, pixel_values: NDArray[np.uint8], input_ids: NDArray[np.int64]
) -> Path:
    """Copy a repository and make both encoders fail on one item. A failure concerns the whole batch of the encoder.

    Args:
        repository: the built repository; it stays as it is.
        folder: the place of the copy, which must not exist.
        pixel_values: uint8 (3, S, S), the image on which the vision encoder fails.
        input_ids: int64 (1, L), the text on which the text encoder fails.

    Returns:
        The copy, to be served with ``check_files=False``, because the weights are not those of the manifest.
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
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript as such is, not Triton's use of it
            torch.jit.save(torch.jit.script(wrapper(torch.jit.load(path), chosen).eval()), path)
    return folder

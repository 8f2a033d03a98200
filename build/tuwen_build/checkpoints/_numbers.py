"""Checks for numbers in a checkpoint that would spoil every vector or probability."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tuwen_build.errors import CheckpointError

__all__ = ["check_finite", "exponential_of"]


def check_finite(weights: Mapping[str, Tensor], origin: object) -> None:
    """Reject weights with NaN or infinity, because one such number spoils every vector.

    Args:
        weights: the tensors by name.
        origin: the file or folder, for the error message.

    Raises:
        CheckpointError: a tensor holds NaN or infinity. The message names the tensor and the number of bad values.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(
                f"{origin}: {name} holds {count} of {tensor.numel()} numbers that are NaN or infinite. "
                "If the training diverged, take an earlier checkpoint. If the file is damaged, download the file again"
            )


def exponential_of(logit_scale: Tensor, origin: object) -> float:
    """Return the factor that turns cosines into logits: the exponential of the weight ``logit_scale``.

    Raises:
        CheckpointError: the weight is not one number, not finite, or its exponential is too large for float32.
    """
    if logit_scale.numel() != 1:
        raise CheckpointError(f"{origin}: logit_scale has shape {tuple(logit_scale.shape)}; expected one number")
    value = float(logit_scale.detach())
    largest = math.log(torch.finfo(torch.float32).max)
    if not value <= largest or math.isinf(value):
        raise CheckpointError(
            f"{origin}: logit_scale is {value:g}, whose exponential is too large for float32; expected at most "
            f"{largest:.1f}. Training keeps it below 4.6052, so that the factor of the cosines is at most 100"
        )
    return math.exp(value)

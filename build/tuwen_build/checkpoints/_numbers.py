"""Numbers of a checkpoint that no vector or probability can be computed with."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tuwen_build.errors import CheckpointError

__all__ = ["check_finite", "exponential_of"]


def check_finite(weights: Mapping[str, Tensor], origin: object) -> None:
    """Refuse weights with NaN or infinity: a single such number spoils every vector.

    Args:
        weights: by name.
        origin: the file or folder, for the message.

    Raises:
        CheckpointError: names the first tensor, and says how many of its numbers are not finite.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(
                f"{origin}: {name} holds {count} of {tensor.numel()} numbers that are NaN or infinite. "
                "The training diverged, or the file is damaged; take an earlier checkpoint or download it again"
            )


def exponential_of(logit_scale: Tensor, origin: object) -> float:
    """Return what cosines are multiplied with to become logits, the exponential of the weight ``logit_scale``.

    Raises:
        CheckpointError: the weight is not one number, not finite, or its exponential is no float32.
    """
    if logit_scale.numel() != 1:
        raise CheckpointError(f"{origin}: logit_scale has shape {tuple(logit_scale.shape)}; expected one number")
    value = float(logit_scale.detach())
    largest = math.log(torch.finfo(torch.float32).max)
    if not value <= largest or math.isinf(value):
        raise CheckpointError(
            f"{origin}: logit_scale is {value:g}, whose exponential is not a float32; expected at most {largest:.1f}. "
            "Training keeps it below 4.6052, so that cosines are multiplied with 100 at most"
        )
    return math.exp(value)

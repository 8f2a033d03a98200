"""Weights are updated by AdamW, as in cn_clip/training/main.py, and averaged over the last steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["averaged", "learning_rate_at", "new_optimizer"]


def new_optimizer(modules: Iterable[nn.Module], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over what learns; biases, norms and scales do not decay."""
    parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-6)


def learning_rate_at(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up, then half a cosine down to nearly zero (cn_clip/training/scheduler.py)."""
    warmup = min(warmup, steps // 2)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a model's weights, with a short memory at first."""

    def average(mean: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
        memory = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return mean.lerp(current.to(mean.dtype), 1 - memory)

    return AveragedModel(model, avg_fn=average)

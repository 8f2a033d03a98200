"""The optimizers: AdamW, as in cn_clip/training/main.py, or Muon; and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tuwen_lab.options import OptimizerName

__all__ = ["Optimizer", "averaged", "fitting_warmup", "learning_rate_at"]

_MUON_FACTOR = 8.0  # ratio of Muon's learning rate to AdamW's, found on the emoji data


class Optimizer:
    """The optimizer of all trained weights. Biases, norms and scales have no weight decay.

    cn_clip picks the weights without decay by their names. Its rule misses BERT's LayerNorm weights and the image
    tower's class embedding, which decay in cn_clip and not here. All other weights are in the same group as in cn_clip.

    Muon (Jordan et al. 2024) makes the updates of the layers' matrices orthogonal. From random weights, Muon needs
    about half as many steps as AdamW. AdamW updates embeddings, projections and all weights that are not matrices.
    """

    def __init__(self, modules: Sequence[nn.Module], name: OptimizerName, weight_decay: float) -> None:
        named = [pair for module in modules for pair in module.named_parameters() if pair[1].requires_grad]
        layers = [tensor for path, tensor in named if name == "muon" and tensor.ndim == 2 and ".encoder." in path]
        chosen = {id(tensor) for tensor in layers}
        others = [tensor for _, tensor in named if id(tensor) not in chosen]
        groups = [
            {"params": [tensor for tensor in others if tensor.ndim >= 2], "weight_decay": weight_decay},
            {"params": [tensor for tensor in others if tensor.ndim < 2], "weight_decay": 0.0},
        ]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True), 1.0)
        ]
        if layers:
            muon = torch.optim.Muon(layers, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            self._parts.append((muon, _MUON_FACTOR))

    def zero_grad(self) -> None:
        """Reset the gradients."""
        for part, _ in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self, learning_rate: float, scaler: torch.amp.GradScaler) -> None:
        """Update the weights with gradients that `scaler` has scaled."""
        for part, factor in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * factor
            scaler.step(part)
        scaler.update()

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state for `load_state_dict`."""
        return [part.state_dict() for part, _ in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore a state of `state_dict`."""
        for (part, _), state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def learning_rate_at(step: int, steps: int, warmup: int, peak: float) -> float:
    """Return the learning rate: a linear warm-up, then half a cosine to nearly zero (cn_clip/training/scheduler.py)."""
    warmup = fitting_warmup(warmup, steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def fitting_warmup(warmup: int, steps: int) -> int:
    """Return the warm-up steps of a stage. If `warmup` exceeds half of the stage, a tenth of the stage is returned."""
    return warmup if warmup <= steps // 2 else steps // 10


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Return a model that averages weights exponentially, with a smaller decay in the first steps."""

    def average(mean: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
        memory = min(decay, (1 + int(steps)) / (10 + int(steps)))
        return mean.lerp(current.to(mean.dtype), 1 - memory)

    return AveragedModel(model, avg_fn=average)

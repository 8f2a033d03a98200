"""What is made small: the contrastive loss, and from scratch the distance to proxies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MAX_LOGIT_SCALE", "Proxies", "clamp_logit_scale", "contrastive_loss"]

MAX_LOGIT_SCALE = math.log(100)  # Radford et al. 2021, section 2.5; cn_clip/training/train.py clamps to 4.6052
_PROXY_SCALE = 200.0  # so that vectors which begin at zero mean something after few of AdamW's small steps


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor, fits: Tensor) -> Tensor:
    """The symmetric cross-entropy of Radford et al. 2021 (figure 3), with more than one right answer in a row.

    A batch may hold several texts that are true of a picture. None of them may count as wrong, so that the target of
    a row is spread evenly over all that fit.

    Args:
        images: unit vectors, float32 (n, D).
        texts: unit vectors, float32 (m, D).
        logit_scale: the factor of the cosines, not its logarithm.
        fits: bool (n, m); every row and every column has one true at least.
    """
    logits = logit_scale * images @ texts.T
    right = fits.to(logits.dtype)
    by_image = functional.cross_entropy(logits, right / right.sum(1, keepdim=True))
    by_text = functional.cross_entropy(logits.T, right.T / right.T.sum(1, keepdim=True))
    return (by_image + by_text) / 2


@torch.no_grad()
def clamp_logit_scale(logit_scale: Tensor) -> None:
    """Keep the logarithm between those of 1 and 100."""
    logit_scale.clamp_(0, MAX_LOGIT_SCALE)


class Proxies(nn.Module):
    """A vector for every group of pictures, for the training alone (Movshovitz-Attias et al. 2017).

    From random weights and with small batches the contrastive loss stays where it begins: every vector is alike, and
    nothing says where to go. The proxies do, since all groups are negatives in every step.
    """

    def __init__(self, groups: int, dimension: int) -> None:
        super().__init__()
        # From zeros: random ones would be fled from, to one vector for everything, before they meant anything.
        self.vectors = nn.Parameter(torch.zeros(groups, dimension))

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """The cross-entropy of unit vectors against their groups: indices (n,), or shares (n, groups)."""
        logits = _PROXY_SCALE * embeddings @ self.vectors.T
        return functional.cross_entropy(logits, targets)

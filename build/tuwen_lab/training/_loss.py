"""The losses: the contrastive loss and, for random weights, the distance to proxies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MAX_LOGIT_SCALE", "Proxies", "clamp_logit_scale", "contrastive_loss"]

MAX_LOGIT_SCALE = math.log(100)  # Radford et al. 2021, section 2.5; cn_clip/training/train.py clamps to 4.6052
_PROXY_SCALE = 200.0  # large, because the proxies start at zero and AdamW's steps are small


def contrastive_loss(images: Tensor, texts: Tensor, logit_scale: Tensor, fits: Tensor) -> Tensor:
    """Return the symmetric cross-entropy of Radford et al. 2021 (figure 3), with several correct answers per row.

    A batch may hold several texts that are true of a picture. All of them count as correct: the target of a row has
    equal shares for all texts that fit.

    Args:
        images: the unit vectors of the images, float32 (n, D).
        texts: the unit vectors of the texts, float32 (m, D).
        logit_scale: the factor of the cosines, not the logarithm of this factor.
        fits: whether a text is true of an image, bool (n, m), with at least one true value in every row and column.
    """
    logits = logit_scale * images @ texts.T
    right = fits.to(logits.dtype)
    by_image = functional.cross_entropy(logits, right / right.sum(1, keepdim=True))
    by_text = functional.cross_entropy(logits.T, right.T / right.T.sum(1, keepdim=True))
    return (by_image + by_text) / 2


@torch.no_grad()
def clamp_logit_scale(logit_scale: Tensor) -> None:
    """Clamp the logarithm of the logit scale to the logarithms of 1 and 100."""
    logit_scale.clamp_(0, MAX_LOGIT_SCALE)


class Proxies(nn.Module):
    """A learned vector for every group of pictures, used in training alone (Movshovitz-Attias et al. 2017).

    With random weights and small batches, the contrastive loss does not decrease: all vectors are similar, and the
    gradients have no clear direction. With proxies, every step compares each vector with
    all groups, not only with the groups of the batch. This gives the gradients a direction.
    """

    def __init__(self, groups: int, dimension: int) -> None:
        super().__init__()
        # Zeros, because random proxies would first push all vectors to one point.
        self.vectors = nn.Parameter(torch.zeros(groups, dimension))

    def forward(self, embeddings: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy between unit vectors and target groups.

        The targets are the groups' indices (n,), or the shares of all groups (n, groups).
        """
        logits = _PROXY_SCALE * embeddings @ self.vectors.T
        return functional.cross_entropy(logits, targets)

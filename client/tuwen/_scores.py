"""What a similarity is: three numbers that are often confused, each under its own name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Similarity", "similarity"]


@dataclass(frozen=True, eq=False)
class Similarity:
    """How well n images and m texts fit; every array is float32 (n, m). Compared by identity, as it holds arrays.

    Attributes:
        cosine: the cosine of the two embeddings, from -1 to 1. Comparable between calls; what an index stores
            and what a threshold is set on.
        logits: cosine times the model's logit scale (about 100).
        probabilities: softmax of the logits over the texts, for each image. Only meaningful among the texts
            of this call: with one text it is always 1.
    """

    cosine: NDArray[np.float32]
    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def similarity(images: NDArray[np.float32], texts: NDArray[np.float32], logit_scale: float) -> Similarity:
    """Compare unit vectors: images (n, D) and texts (m, D), as in section 3 of the CLIP paper (arXiv 2103.00020)."""
    cosine = images @ texts.T
    logits = np.float32(logit_scale) * cosine
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Similarity(cosine, logits, exponentials / exponentials.sum(axis=1, keepdims=True))

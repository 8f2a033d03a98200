"""Chinese-CLIP's preprocessing, written down apart from the code that serves, to compare that code with."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tuwen_build.checkpoints import Preprocessing

__all__ = ["normalised", "reference_pixels"]


def reference_pixels(data: bytes, side: int) -> NDArray[np.uint8]:
    """An encoded image as uint8 (3, side, side).

    cn_clip's image_transform (cn_clip/clip/utils.py) up to ToTensor; on a PIL image its Resize is PIL's own.
    """
    with Image.open(io.BytesIO(data)) as image:
        resized = image.resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
    return np.asarray(resized).transpose(2, 0, 1)


def normalised(pixels: Tensor, rules: Preprocessing) -> Tensor:
    """uint8 pixels (n, 3, S, S) as the reference model takes them: ToTensor and Normalize, float32."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (rules.mean, rules.std))
    return (pixels.to(torch.float32) / 255.0 - mean) / std

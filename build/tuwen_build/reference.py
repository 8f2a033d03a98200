"""The families' preprocessing, written down apart from the code that serves, to compare that code with."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tuwen_build.checkpoints import Preprocessing

__all__ = ["normalised", "reference_pixels"]


def reference_pixels(data: bytes, rules: Preprocessing) -> NDArray[np.uint8]:
    """An encoded image as uint8 (3, S, S).

    Squashed as by cn_clip's image_transform (cn_clip/clip/utils.py), or cropped as by OpenAI's _transform
    (clip/clip.py), up to ToTensor; on a PIL image torchvision's Resize is PIL's own, and both convert to RGB after it.
    """
    side = rules.image_size
    with Image.open(io.BytesIO(data)) as image:
        if rules.resize == "squash":
            resized = image.resize((side, side), Image.Resampling.BICUBIC)
        else:
            resized = _centre(image.resize(_shortest_edge(image.size, side), Image.Resampling.BICUBIC), side)
        return np.asarray(resized.convert("RGB")).transpose(2, 0, 1)


def _shortest_edge(size: tuple[int, int], side: int) -> tuple[int, int]:
    """torchvision.transforms.functional._compute_resized_output_size: the longer edge is rounded down."""
    width, height = size
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def _centre(image: Image.Image, side: int) -> Image.Image:
    """torchvision.transforms.functional.center_crop: halves round to even."""
    left, top = (int(round((edge - side) / 2.0)) for edge in image.size)  # noqa: RUF046 - as it stands there
    return image.crop((left, top, left + side, top + side))


def normalised(pixels: Tensor, rules: Preprocessing) -> Tensor:
    """uint8 pixels (n, 3, S, S) as the reference model takes them: ToTensor and Normalize, float32."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (rules.mean, rules.std))
    return (pixels.to(torch.float32) / 255.0 - mean) / std

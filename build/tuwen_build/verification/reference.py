"""A second implementation of the families' preprocessing, to compare the code of the server with."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tuwen_build.checkpoints import ImageProcessor, Preprocessing
from tuwen_repository.samples import PHOTOGRAPHS, sample

__all__ = ["normalised", "processor_probes", "reference_pixels"]


def reference_pixels(data: bytes, rules: Preprocessing) -> NDArray[np.uint8]:
    """Return an encoded image as uint8 (3, S, S).

    The function follows cn_clip's image_transform (cn_clip/clip/utils.py), which squashes the image, or OpenAI's
    _transform (clip/clip.py), which crops it. The step ToTensor is left out. On a PIL image, torchvision's Resize calls
    PIL's resize. Both transforms convert the image to RGB after the resize.
    """
    side = rules.image_size
    with Image.open(io.BytesIO(data)) as image:
        if rules.resize == "squash":
            resized = image.resize((side, side), Image.Resampling.BICUBIC)
        else:
            resized = _centre(image.resize(_shortest_edge(image.size, side), Image.Resampling.BICUBIC), side)
        return np.asarray(resized.convert("RGB")).transpose(2, 0, 1)


def _shortest_edge(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the sides after the resize, rounded down as in torchvision (``_compute_resized_output_size``)."""
    width, height = size
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def _centre(image: Image.Image, side: int) -> Image.Image:
    """Crop the centre. An offset that ends in .5 is rounded to the even number, as in torchvision (``center_crop``)."""
    left, top = (int(round((edge - side) / 2.0)) for edge in image.size)  # noqa: RUF046 - as it stands there
    return image.crop((left, top, left + side, top + side))


def normalised(pixels: Tensor, rules: Preprocessing | ImageProcessor) -> Tensor:
    """Convert uint8 pixels (n, 3, S, S) to float32 inputs of the reference model, like ToTensor and Normalize."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (rules.mean, rules.std))
    return (pixels.to(torch.float32) / 255.0 - mean) / std


def processor_probes() -> dict[str, bytes]:
    """Return RGB images in PNG on which transformers' image processors agree with the families' own preprocessing.

    The original code converts to RGB after the resize. It rounds a crop's offset that ends in .5 to the
    even number, and transformers rounds down. If the sides have the ratio 3 to 1, the offset is a whole number, so that
    both agree.
    """
    probes = {}
    for name in PHOTOGRAPHS:
        with Image.open(sample(name)) as photograph:
            for size in ((301, 903), (903, 301)):
                encoded = io.BytesIO()
                photograph.convert("RGB").resize(size).save(encoded, "PNG")
                probes[f"{name} at {size[0]} x {size[1]} pixels"] = encoded.getvalue()
    return probes

"""The image processor that transformers makes from a checkpoint's files, to compare the build's own rules with.

This module does not use `read_preprocessing`, because transformers must read the folder's files itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tuwen_build.checkpoints._checkpoint import ImageProcessor
from tuwen_build.checkpoints._weights import first_line
from tuwen_build.errors import CheckpointError

try:  # Pillow's variant, renamed when transformers made torchvision the default
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as _Processor
except ImportError:
    from transformers import CLIPImageProcessor as _Processor  # type: ignore[assignment]

__all__ = ["published_image_processor", "saved_image_processor"]


def saved_image_processor(folder: Path, image_size: int, resize: Literal["squash", "crop"]) -> ImageProcessor:
    """Return the image processor that a folder describes, or the published one if the folder describes none.

    Raises:
        CheckpointError: transformers cannot load it.
    """
    processor_class: Any = _Processor
    try:
        settings, _ = processor_class.get_image_processor_dict(str(folder), local_files_only=True)
    except OSError:  # no file holds settings
        return published_image_processor(image_size, resize)
    try:
        return _PillowProcessor(processor_class.from_dict(settings))
    except Exception as error:  # the validators raise errors of several libraries
        raise CheckpointError(f"{folder}: transformers cannot load the image processor: {first_line(error)}") from error


def published_image_processor(image_size: int, resize: Literal["squash", "crop"]) -> ImageProcessor:
    """Return the image processor of the published models: transformers' defaults, but the family's way of resizing."""
    square = {"height": image_size, "width": image_size}
    size = square if resize == "squash" else {"shortest_edge": image_size}
    processor_class: Any = _Processor
    return _PillowProcessor(processor_class(size=size, crop_size=square, do_center_crop=resize == "crop"))


class _PillowProcessor:
    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self.mean = _channels(processor.image_mean if processor.do_normalize else 0.0)
        self.std = _channels(processor.image_std if processor.do_normalize else 1.0)

    def pixel_values(self, image: Image.Image) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._processor(image, return_tensors="np")["pixel_values"][0]
        return values


def _channels(value: Any) -> tuple[float, float, float]:
    red, green, blue = value if isinstance(value, list | tuple) else (value,) * 3
    return red, green, blue

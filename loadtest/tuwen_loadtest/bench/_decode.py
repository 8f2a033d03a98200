"""The speed of decoding on one core, from bytes to pixel values: tuwen, Pillow, and the Hugging Face processor."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image
from transformers import ChineseCLIPImageProcessorPil

from tuwen.pixels import Preprocessor
from tuwen_server.traffic import photographs

__all__ = ["SIZES", "measure_decoding"]

SIZES = ((640, 480), (1600, 1200), (4000, 3000))
_SIDE = 224


def measure_decoding(seconds: float) -> Mapping[str, Mapping[str, float]]:
    """Return the images per second on one core, by decoder and size of the photographs.

    Args:
        seconds: the duration of each measurement.
    """
    processor = ChineseCLIPImageProcessorPil(size={"height": _SIDE, "width": _SIDE}, do_center_crop=False)
    ways: dict[str, Callable[[bytes], object]] = {
        "tuwen": Preprocessor(_SIDE).pixel_values,
        "tuwen, scaled JPEG decoding": Preprocessor(_SIDE, jpeg_decoding="scaled").pixel_values,
        "plain Pillow": _pillow,
        "Hugging Face processor": lambda data: processor(
            Image.open(io.BytesIO(data)).convert("RGB"), return_tensors="np"
        ),
    }
    work = {f"{width}x{height}": photographs(4, size=(width, height)) for width, height in SIZES}
    return {name: {size: _rate(way, images, seconds) for size, images in work.items()} for name, way in ways.items()}


def _pillow(data: bytes) -> object:
    with Image.open(io.BytesIO(data)) as image:
        resized = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    return (np.asarray(resized, dtype=np.float32) / 255).transpose(2, 0, 1)


def _rate(way: Callable[[bytes], object], images: Sequence[bytes], seconds: float) -> float:
    way(images[0])
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        way(images[done % len(images)])
        done += 1
    return done / elapsed

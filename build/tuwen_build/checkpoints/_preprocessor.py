"""Preprocessing rules, from ``preprocessor_config.json`` where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tuwen_build.checkpoints._checkpoint import Preprocessing
from tuwen_build.checkpoints._json import load_json
from tuwen_build.errors import CheckpointError

__all__ = ["MEAN", "STD", "read_preprocessing"]

# What preprocessor_config.json says in every release of CLIP and Chinese-CLIP; a fine-tuned folder may lack the file.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_BICUBIC = 3


def read_preprocessing(folder: Path, image_size: int, resize: Literal["squash", "crop"]) -> Preprocessing:
    """The family's rules, with the file's mean and std.

    Raises:
        CheckpointError: the file asks for other rules than the family's.
    """
    path = folder / "preprocessor_config.json"
    settings = load_json(path) if path.is_file() else {}
    crop = settings.get("do_center_crop", resize == "crop")
    if crop != (resize == "crop"):
        rule = "crops the centre" if resize == "crop" else "squashes to a square"
        raise CheckpointError(f"{path} says do_center_crop {str(crop).lower()}; this family {rule}")
    for name in ("size", "crop_size") if crop else ("size",):
        if (side := _side(settings.get(name, image_size))) != image_size:
            raise CheckpointError(f"{path}: {name} is {side} pixels, config.json says image_size {image_size}")
    if settings.get("resample", _BICUBIC) != _BICUBIC:
        raise CheckpointError(f"{path} asks for resample {settings['resample']}; this family uses bicubic ({_BICUBIC})")
    mean, std = (tuple(settings.get(name, default)) for name, default in (("image_mean", MEAN), ("image_std", STD)))
    return Preprocessing(image_size, resize, mean, std)


def _side(size: Any) -> Any:
    return size.get("height", size.get("shortest_edge")) if isinstance(size, dict) else size

"""Preprocessing rules, read from the file of a checkpoint's image processor.

transformers 5 writes the settings into ``processor_config.json``, under ``image_processor``. Versions up to 4.57, and
an image processor that is saved alone, write ``preprocessor_config.json``. transformers reads the nested settings
first (``ImageProcessingMixin.get_image_processor_dict``). A missing key has the default of `CLIPImageProcessor`,
which `ChineseCLIPImageProcessor` shares.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuwen_build.checkpoints._checkpoint import Preprocessing
from tuwen_build.checkpoints._json import load_json
from tuwen_build.errors import CheckpointError

__all__ = ["MEAN", "STD", "read_preprocessing"]

# The statistics of every release of CLIP and Chinese-CLIP; a fine-tuned folder may lack both files.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
    "do_convert_rgb": True,
    "do_pad": False,
    "use_square_size": False,
    "data_format": "channels_first",
}
_FIXED = {
    "do_resize": "images of any size are resized for the vision encoder",
    "resample": "bicubic, the filter of CLIP and Chinese-CLIP",
    "do_rescale": "pixels are scaled to [0, 1]; if the model takes 0 to 255, divide image_mean and image_std by 255",
    "do_convert_rgb": "every image is converted to RGB",
    "do_pad": "images are resized to the encoder's square, not padded",
    "use_square_size": "write the size as height and width instead",
    "data_format": "the encoder takes channels first",
}
_MAY_BE_NULL = {"default_to_square", "do_pad", "use_square_size", "data_format"}  # other types fail in transformers
_TYPES = tuple(
    f"{family}CLIP{kind}"
    for family in ("", "Chinese")
    for kind in ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
)
_TYPE_KEYS = ("image_processor_type", "feature_extractor_type")
# Keys that some version of transformers writes and that do not change pixels: names, devices, batching, loading.
_WITHOUT_EFFECT = {
    "_name_or_path", "_processor_class", "_valid_processor_keys", "cache_dir", "device", "disable_grouping", "dtype",
    "image_seq_length", "is_local", "local_files_only", "model_input_names", "name_or_path", "pad_size",
    "processor_class", "return_tensors", "revision", "torch_dtype", "transformers_version", "use_fast",
}  # fmt: skip


def read_preprocessing(folder: Path, image_size: int, resize: Literal["squash", "crop"]) -> Preprocessing:
    """Read the preprocessing of a folder in the layout of Hugging Face.

    Args:
        folder: the folder with ``processor_config.json`` or ``preprocessor_config.json``. If it has neither file, the
            family's default rules are returned.
        image_size: the side of the vision encoder's input in pixels, from ``config.json``.
        resize: how the family resizes.

    Raises:
        CheckpointError: the file asks for a rule that the server does not implement. The message names file, key and
            value.
    """
    settings = _find(folder)
    if settings is None:
        return Preprocessing(image_size, resize, MEAN, STD)
    settings.check_names()
    keys = [key for key in _DEFAULTS if key not in ("image_mean", "image_std")]
    for key in sorted(keys, key=settings.lacks):  # errors about present keys come before errors about missing ones
        _check(settings, key, image_size, resize)
    if not settings.value("do_normalize"):
        return Preprocessing(image_size, resize, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Preprocessing(image_size, resize, settings.channels("image_mean"), settings.channels("image_std"))


@dataclass(frozen=True)
class _Settings:
    """The settings of one image processor, and the file that holds them."""

    path: Path
    given: Mapping[str, Any]

    def lacks(self, key: str) -> bool:
        """Return whether the file lacks a key, or holds null, so that transformers takes its default."""
        return key not in self.given or (key in _MAY_BE_NULL and self.given[key] is None)

    def value(self, key: str) -> Any:
        return _DEFAULTS[key] if self.lacks(key) else self.given[key]

    def said(self, key: str) -> str:
        """Return the beginning of an error message. It states the value of a key, or that the file lacks the key."""
        value = json.dumps(self.value(key))
        if self.lacks(key):
            return f"{self.path} lacks {key}, and the default of transformers is {value}"
        return f"{self.path} says {key} {value}"

    def refuse(self, key: str, expectation: str) -> CheckpointError:
        """Return the error about the value of a key. The expectation begins with the word "expected"."""
        return CheckpointError(f"{self.said(key)}; {expectation}")

    def check_names(self) -> None:
        """Reject an unsupported kind of image processor, and keys whose effect is unknown."""
        for key in _TYPE_KEYS:
            if self.given.get(key) is not None and self.given[key] not in _TYPES:
                value = json.dumps(self.given[key])
                raise CheckpointError(f"{self.path} says {key} {value}; expected one of {', '.join(_TYPES)}")
        for key, value in self.given.items():
            known = key in _DEFAULTS or key in _TYPE_KEYS or key in _WITHOUT_EFFECT
            if not known and value is not None:
                raise CheckpointError(
                    f"{self.path} says {key} {json.dumps(value)}; this key is not supported, because it may change "
                    f"pixels. If the key does not change pixels, remove it. Supported keys: {', '.join(_DEFAULTS)}"
                )

    def channels(self, key: str) -> tuple[float, float, float]:
        """Return the value of a key as three finite numbers. A single number counts for every channel."""
        value = self.value(key)
        values = value if isinstance(value, list) else [value] * 3
        if len(values) != 3 or not all(_is_number(number) for number in values):
            raise self.refuse(key, "expected three finite numbers, or one number for all channels")
        if key == "image_std" and min(values) <= 0:
            raise self.refuse(key, "expected numbers above 0")
        red, green, blue = (float(number) for number in values)
        return red, green, blue


def _find(folder: Path) -> _Settings | None:
    """Return the settings that transformers would read, or None if no file holds settings."""
    path = folder / "processor_config.json"
    if path.is_file():
        nested = load_json(path).get("image_processor")
        if isinstance(nested, dict):
            return _Settings(path, nested)
        if nested is not None:
            raise CheckpointError(f"{path} says image_processor {json.dumps(nested)}; expected an object with settings")
    path = folder / "preprocessor_config.json"
    return _Settings(path, load_json(path)) if path.is_file() else None


def _check(settings: _Settings, key: str, image_size: int, resize: Literal["squash", "crop"]) -> None:
    """Reject a value that asks for rules that the server does not implement."""
    value, default = settings.value(key), _DEFAULTS[key]
    if isinstance(default, bool) and not isinstance(value, bool):
        raise settings.refuse(key, "expected true or false")
    if key in _FIXED and (type(value), value) != (type(default), default):
        raise settings.refuse(key, f"expected {json.dumps(default)}: {_FIXED[key]}")
    if key == "do_center_crop" and value != (resize == "crop"):
        rule = "crops the centre" if resize == "crop" else "squashes to a square"
        raise CheckpointError(f"{settings.said(key)}; this family {rule}, so {key} must be {json.dumps(not value)}")
    if key == "do_normalize" and not value and settings.lacks("do_rescale"):
        raise settings.refuse(
            key,
            "expected true; if false is meant, set do_rescale as well, because transformers before 4.25 does not "
            "rescale if do_rescale is missing",
        )
    if key == "rescale_factor" and not (_is_number(value) and math.isclose(value, default, rel_tol=1e-6)):
        raise settings.refuse(key, "expected 1/255; for another factor f, divide image_mean and image_std by 255 f")
    if key == "size":
        names = ("height", "width") if resize == "squash" else ("shortest_edge",)
        _check_size(settings, key, dict.fromkeys(names, image_size), square=settings.value("default_to_square"))
    if key == "crop_size" and resize == "crop":
        _check_size(settings, key, {"height": image_size, "width": image_size}, square=True)


def _check_size(settings: _Settings, key: str, expected: dict[str, int], *, square: bool) -> None:
    """Reject a size that differs from the expected one, in any form that transformers accepts (``get_size_dict``)."""
    value: Any = settings.value(key)
    if isinstance(value, dict):
        size = {name: number for name, number in value.items() if number is not None}
    elif isinstance(value, list) and len(value) == 2:
        size = {"height": value[0], "width": value[1]}
    else:
        size = {"height": value, "width": value} if square else {"shortest_edge": value}
    if size == expected and all(type(number) is int for number in size.values()):
        return
    image_size = next(iter(expected.values()))
    sides = set(size.values()) if size.keys() == expected.keys() else set()
    if len(sides) == 1:
        default = f" (the default of transformers, because the file lacks {key})" if settings.lacks(key) else ""
        raise CheckpointError(
            f"{settings.path}: expected {key} {image_size}, which is image_size in config.json; "
            f"got {json.dumps(sides.pop())}{default}"
        )
    raise settings.refuse(key, f"expected {json.dumps(expected)}, because config.json says image_size {image_size}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

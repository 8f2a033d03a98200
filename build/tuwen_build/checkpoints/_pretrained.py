"""Loading a transformers model from a folder, strictly: no weight may be missing or unexpected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tuwen_build.checkpoints._checkpoint import ImageProcessor, Reference, Tokenization
from tuwen_build.checkpoints._folders import check_no_pointer
from tuwen_build.checkpoints._json import load_json
from tuwen_build.checkpoints._numbers import check_finite
from tuwen_build.checkpoints._tokenizers import reference_tokenizer
from tuwen_build.checkpoints._weights import check_loading_report, check_no_lora, first_line, load_pickled_weights
from tuwen_build.checkpoints._wrappers import without_prefixes
from tuwen_build.errors import CheckpointError

__all__ = ["features_reference", "load_pretrained", "model_type", "weight_files", "weight_names"]


def load_pretrained(model_class: Any, folder: Path, *, unused: tuple[str, ...] = ()) -> Any:
    """Return the model in float32 and eval mode.

    transformers fills missing weights with random numbers and only warns. Here, a missing weight is an error. An
    unexpected weight is an error too, unless its name ends in one of `unused`. Both mean that ``config.json`` belongs
    to another checkpoint.
    """
    check_no_lora(weight_names(folder), folder)
    _check_config(folder / "config.json")
    try:
        weights = _unwrapped_weights(folder)
        given = {} if weights is None else {"state_dict": weights, "config": _config(model_class, folder)}
        model, report = model_class.from_pretrained(
            None if given else str(folder),
            **given,
            dtype=torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, and refused below with their names
            weights_only=True,
        )
    except Exception as error:  # transformers, safetensors and pickle each raise their own
        raise CheckpointError(f"{folder}: cannot load the weights: {first_line(error)}") from error
    check_loading_report(folder, report, unused=unused)
    check_finite(model.state_dict(), folder)
    return model.eval()


def _config(model_class: Any, folder: Path) -> Any:
    return model_class.config_class.from_pretrained(str(folder), local_files_only=True)


def _check_config(path: Path) -> None:
    """Reject settings that prevent the export of transformers' modules."""
    config = load_json(path)
    sections = {name: config[name] for name in ("text_config", "vision_config") if isinstance(config.get(name), dict)}
    if config.get("return_dict") is False:
        sections[""] = {"return_dict": False}
    for name, section in (sections or {"": config}).items():
        for key, default in (("chunk_size_feed_forward", 0), ("return_dict", True)):
            value = section.get(key)
            if value is not None and value != default:
                place = f"{name}.{key}" if name else key
                raise CheckpointError(
                    f"{path} says {place} {json.dumps(value)}; expected {json.dumps(default)}. Set this value "
                    "or remove the key; the vectors stay the same"
                )


def features_reference(model: Any, tokenization: Tokenization, image_processor: ImageProcessor) -> Reference:
    """Return the reference of a CLIP model of transformers.

    The model's own feature methods embed images and texts. They build their own attention masks.
    """

    @torch.inference_mode()
    def embed_images(pixel_values: Tensor) -> Tensor:
        return _projected(model.get_image_features(pixel_values=pixel_values))

    @torch.inference_mode()
    def embed_texts(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return _projected(model.get_text_features(input_ids=input_ids, attention_mask=attention_mask))

    return Reference(embed_images, embed_texts, reference_tokenizer(tokenization), image_processor)


def _projected(output: Any) -> Tensor:
    """Return the projected vector. Since transformers 5, feature methods return an object that holds the vector."""
    return output if isinstance(output, Tensor) else output.pooler_output


def weight_files(folder: Path) -> Mapping[str, Path]:
    """Return the files that `load_pretrained` reads, by name.

    Raises:
        CheckpointError: there are no weights.
    """
    found = (folder.glob(pattern) for pattern in ("*.safetensors", "pytorch_model*.bin"))
    weights = next(filter(None, (sorted(filter(Path.is_file, paths)) for paths in found)), None)
    if not weights:
        raise CheckpointError(f"{folder} holds no weights; expected *.safetensors or pytorch_model*.bin")
    return {path.name: path for path in (folder / "config.json", *weights)}


def weight_names(folder: Path) -> set[str]:
    """Return the names of all tensors in a folder's weights files.

    Raises:
        CheckpointError: there are no weights, or a weights file is truncated, damaged or would run code.
    """
    return set(without_prefixes(dict.fromkeys(_names_in_files(folder)), folder))


def _names_in_files(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in weight_files(folder).values():
        check_no_pointer(path)
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="pt") as file:
                    names.update(file.keys())
            except Exception as error:  # safetensors raises its own error, which is no subclass of a public one
                raise CheckpointError(f"{path} is truncated or not a safetensors file: {first_line(error)}") from error
        elif path.suffix == ".bin":
            names.update(load_pickled_weights(path))
    return names


def _unwrapped_weights(folder: Path) -> dict[str, Tensor] | None:
    """Return the weights without wrappers' prefixes; None: transformers can read the safetensors files itself."""
    names = _names_in_files(folder)
    paths = list(weight_files(folder).values())[1:]  # the first is config.json
    if paths[0].suffix == ".bin":
        return {name: tensor for path in paths for name, tensor in load_pickled_weights(path).items()}
    if weight_names(folder) == names:
        return None
    return without_prefixes({name: tensor for path in paths for name, tensor in load_file(path).items()}, folder)


def model_type(path: Path) -> str | None:
    """Return ``model_type`` of a folder's ``config.json``. If an old file lacks it, ``architectures`` decides."""
    if not (path / "config.json").is_file():
        return None
    config = load_json(path / "config.json")
    by_architecture = {"ChineseCLIPModel": "chinese_clip", "CLIPModel": "clip"}
    architecture = (config.get("architectures") or [None])[0]
    return config.get("model_type") or by_architecture.get(architecture)

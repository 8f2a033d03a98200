"""The start of a training: the folder of a checkpoint, or a new checkpoint with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from tuwen import InvalidArgumentError
from tuwen_build.checkpoints import MEAN, STD, ChineseClip, ChineseClipReader, locate, read_chinese_clip
from tuwen_build.errors import CheckpointError
from tuwen_files.disk_space import check_space, full_disk_named
from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.training._augmentation import on_white
from tuwen_lab.training._model import DEMO_ARCHITECTURE, new_model
from tuwen_lab.training._pictures import Pictures
from tuwen_repository.samples import vocabulary

__all__ = ["copy_descriptions", "open_start", "write_new_checkpoint"]

_DESCRIPTIONS = (
    "vocab.txt",
    "tokenizer.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_LOOKED_AT = 512  # the number of pictures whose patches initialise the filters


def open_start(source: str) -> tuple[Path, ChineseClip]:
    """Load a Chinese-CLIP checkpoint in the layout of Hugging Face as the start of a training.

    Raises:
        CheckpointError: the source is not a Chinese-CLIP checkpoint in the layout of Hugging Face.
    """
    path = locate(source)
    if not ChineseClipReader().recognises(path):
        raise CheckpointError(
            f"{source} is not a Chinese-CLIP checkpoint in the layout of Hugging Face. Training needs a checkpoint "
            "such as OFA-Sys/chinese-clip-vit-base-patch16"
        )
    return path, read_chinese_clip(path)


def write_new_checkpoint(folder: Path, data: RetrievalSplit, architecture: Path | None, *, seed: int) -> None:
    """Write a checkpoint with random weights and with filters that are computed from the pictures.

    Args:
        folder: the folder to create.
        data: the split whose pictures initialise the filters.
        architecture: a ``config.json`` of Chinese-CLIP. Default: the config of the demo checkpoint.
        seed: the seed of the random weights. Equal seeds give equal weights.

    Raises:
        InvalidArgumentError: `architecture` is not a ``config.json`` of Chinese-CLIP.
        DiskFullError: the disk has too little free space.
    """
    sizes = _read_architecture(architecture)
    side = sizes["vision_config"].get("image_size", 224)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with Pictures(data, side, cache_mib=0, workers=4) as pictures:
            rows = torch.randperm(len(pictures))[:_LOOKED_AT].tolist()
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
            model = new_model(sizes, (on_white(pictures.batch(rows)) - mean) / std)
    folder.mkdir(parents=True, exist_ok=True)
    check_space(folder, sum(parameter.nbytes for parameter in model.parameters()), "the new checkpoint")
    with full_disk_named(folder):
        model.save_pretrained(folder)
        shutil.copy(vocabulary(), folder / "vocab.txt")
    settings = {
        "image_processor_type": "ChineseCLIPImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def copy_descriptions(source: Path, output: Path) -> None:
    """Copy the files of a checkpoint other than config and weights: vocabulary, tokenizer and preprocessing."""
    for name in _DESCRIPTIONS:
        if (source / name).is_file():
            shutil.copy(source / name, output / name)


def _read_architecture(path: Path | None) -> dict[str, Any]:
    if path is None:
        return DEMO_ARCHITECTURE
    try:
        sizes = json.loads(path.read_text(encoding="utf-8-sig"))
        wanted = {name: sizes[name] for name in ("projection_dim", "vision_config", "text_config")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgumentError(f"{path} is not a config.json of Chinese-CLIP: {error!r}") from error
    if wanted["text_config"].get("vocab_size") != DEMO_ARCHITECTURE["text_config"]["vocab_size"]:
        raise InvalidArgumentError(f"{path}: expected vocab_size 21128, the size of Chinese-CLIP's vocabulary")
    return wanted

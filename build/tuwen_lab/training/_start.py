"""Where a training starts: a checkpoint's folder, or a new one of random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from tuwen import InvalidArgumentError
from tuwen_build.checkpoints import MEAN, STD, ChineseClip, ChineseClipReader, locate, read_chinese_clip
from tuwen_build.errors import CheckpointError
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
_LOOKED_AT = 512  # pictures whose patches make the first filters


def open_start(source: str) -> tuple[Path, ChineseClip]:
    """A Chinese-CLIP checkpoint in the layout of Hugging Face, from which training can go on.

    Raises:
        CheckpointError: it is none.
    """
    path = locate(source)
    if not ChineseClipReader().recognises(path):
        raise CheckpointError(
            f"{source} is not Chinese-CLIP in the layout of Hugging Face, from which training starts, such as "
            "OFA-Sys/chinese-clip-vit-base-patch16"
        )
    return path, read_chinese_clip(path)


def write_new_checkpoint(folder: Path, data: RetrievalSplit, architecture: Path | None, *, seed: int) -> None:
    """A checkpoint of random weights and of filters that suit the pictures.

    Args:
        folder: created.
        data: whose pictures are looked at.
        architecture: a ``config.json`` of Chinese-CLIP; None: that of the demo checkpoint.
        seed: equal seeds give equal weights.

    Raises:
        InvalidArgumentError: the file is no such config.
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
    """What a checkpoint holds beside config and weights."""
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
        raise InvalidArgumentError(f"{path} is no config.json of Chinese-CLIP: {error!r}") from error
    if wanted["text_config"].get("vocab_size") != DEMO_ARCHITECTURE["text_config"]["vocab_size"]:
        raise InvalidArgumentError(f"{path}: a new model has the vocabulary of Chinese-CLIP, vocab_size 21128")
    return wanted

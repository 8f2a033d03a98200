"""Writes checkpoints of every family in their real layout, with seeded random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CLIPConfig,
    CLIPModel,
)

from tests.support.originals import Originals
from tests.support.paths import ROOT
from tuwen_build.seeded import save_seeded, write_seeded_checkpoint
from tuwen_repository.samples import vocabulary

__all__ = [
    "ROOT",
    "TextSizes",
    "VisionSizes",
    "write_chinese_clip",
    "write_from_cn_clip",
    "write_openai_clip",
    "write_taiyi",
]

VOCABULARY_SIZE = 21128


@dataclass(frozen=True)
class TextSizes:
    """The sizes of a BERT, or of CLIP's causal transformer."""

    width: int
    layers: int
    heads: int

    def config(self) -> dict[str, Any]:
        """Return the sizes as transformers' configurations name them."""
        return {
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
        }


@dataclass(frozen=True)
class VisionSizes(TextSizes):
    """The sizes of a vision transformer."""

    patch: int
    image: int = 224

    def config(self) -> dict[str, Any]:
        """Return the sizes as transformers' configurations name them."""
        return {**super().config(), "patch_size": self.patch, "image_size": self.image}


def write_chinese_clip(folder: Path, vision: VisionSizes, text: TextSizes, dimension: int) -> Path:
    """Write a Chinese-CLIP in the layout of Hugging Face."""
    dimensions = {
        "projection_dim": dimension,
        "vision_config": vision.config(),
        "text_config": {"vocab_size": VOCABULARY_SIZE, **text.config()},
    }
    return write_seeded_checkpoint(folder, dimensions)


def write_openai_clip(
    folder: Path, vision: VisionSizes, text: TextSizes, dimension: int, vocabulary_folder: Path
) -> Path:
    """Write an OpenAI CLIP in the layout of Hugging Face.

    Args:
        folder: the folder to write, which is created if it does not exist.
        vision, text: the sizes of the towers.
        dimension: of the embeddings.
        vocabulary_folder: holds ``vocab.json`` and ``merges.txt``, which are copied.
    """
    size = len(json.loads((vocabulary_folder / "vocab.json").read_text(encoding="utf-8")))
    special = {"vocab_size": size, "bos_token_id": size - 2, "eos_token_id": size - 1}
    config = CLIPConfig(
        projection_dim=dimension, vision_config=vision.config(), text_config={**text.config(), **special}
    )
    save_seeded(CLIPModel, config, folder)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(vocabulary_folder / name, folder / name)
    return folder


def write_taiyi(folder: Path, text: TextSizes, head: int | None = None) -> Path:
    """Write a Taiyi text tower: a BERT with its pooler, and with a classification head of `head` dimensions if any."""
    config = BertConfig(vocab_size=VOCABULARY_SIZE, num_labels=head or 2, **text.config())
    save_seeded(BertForSequenceClassification if head else BertModel, config, folder)
    shutil.copy(vocabulary(), folder / "vocab.txt")
    return folder


def write_from_cn_clip(
    originals: Originals,
    folder: Path,
    layout: Literal["native", "modelscope"],
    vision: str,
    text: str,
    changes: Mapping[str, object] | None = None,
) -> Path:
    """Write a checkpoint with cn_clip's own model: a native ``.pt`` file, or a folder of ModelScope.

    Args:
        originals: whose cn_clip writes.
        folder: exists; the file or folder is written below it.
        layout: the kind of checkpoint.
        vision, text: names in cn_clip/clip/model_configs, such as ``ViT-B-16``.
        changes: values that replace those of these configurations, by key.
    """
    changed = dict(changes or {})
    originals.run("cn_clip", "write", layout=layout, vision=vision, text=text, changes=changed, output=str(folder))
    return folder / ("clip_cn.pt" if layout == "native" else "checkpoint")

"""Checkpoints of every family, written in their published layouts with seeded random weights."""

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
    """The sizes of a text tower: of a BERT, or of CLIP's causal transformer."""

    width: int
    layers: int
    heads: int

    def config(self) -> dict[str, Any]:
        """Return the sizes under their names in a configuration of transformers."""
        return {
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
        }


@dataclass(frozen=True)
class VisionSizes(TextSizes):
    """The sizes of an image tower, a vision transformer. `patch` and `image` are sides in pixels."""

    patch: int
    image: int = 224

    def config(self) -> dict[str, Any]:
        """Return the sizes under their names in a configuration of transformers."""
        return {**super().config(), "patch_size": self.patch, "image_size": self.image}


def write_chinese_clip(folder: Path, vision: VisionSizes, text: TextSizes, dimension: int) -> Path:
    """Write a Chinese-CLIP checkpoint in the layout of Hugging Face, with embeddings of `dimension` components."""
    dimensions = {
        "projection_dim": dimension,
        "vision_config": vision.config(),
        "text_config": {"vocab_size": VOCABULARY_SIZE, **text.config()},
    }
    return write_seeded_checkpoint(folder, dimensions)


def write_openai_clip(
    folder: Path, vision: VisionSizes, text: TextSizes, dimension: int, vocabulary_folder: Path
) -> Path:
    """Write an OpenAI CLIP checkpoint in the layout of Hugging Face.

    Args:
        folder: the folder to write, which is created if it does not exist.
        vision, text: the sizes of the towers.
        dimension: the number of components of an embedding.
        vocabulary_folder: the folder with ``vocab.json`` and ``merges.txt``, which are copied.
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
    """Write the checkpoint of a Taiyi text tower: a BERT with its pooler.

    Args:
        folder: the folder to write, which is created if it does not exist.
        text: the sizes of the BERT.
        head: the number of outputs of a classification head; None: the tower has no such head.
    """
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
    """Write a checkpoint that cn_clip's own code makes: a native ``.pt`` file, or a folder as on ModelScope.

    Args:
        originals: the original implementations, of which cn_clip writes the checkpoint.
        folder: an existing folder, in which the checkpoint appears.
        layout: ``native`` for the file, ``modelscope`` for the folder.
        vision, text: the names of configurations in cn_clip/clip/model_configs, such as ``ViT-B-16``.
        changes: new values for keys of these configurations.
    """
    changed = dict(changes or {})
    originals.run("cn_clip", "write", layout=layout, vision=vision, text=text, changes=changed, output=str(folder))
    return folder / ("clip_cn.pt" if layout == "native" else "checkpoint")

"""Writes checkpoints of every family in their real layout, with seeded random weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CLIPConfig,
    CLIPModel,
)

from tests.support.paths import ENVIRONMENTS, ROOT
from tuwen_build.samples import vocabulary
from tuwen_build.seeded import save_seeded, write_seeded_checkpoint

__all__ = [
    "TextSizes",
    "VisionSizes",
    "run_reference",
    "write_chinese_clip",
    "write_from_cn_clip",
    "write_openai_clip",
    "write_taiyi",
]

VOCABULARY_SIZE = 21128


@dataclass(frozen=True)
class TextSizes:
    """A BERT, or CLIP's causal transformer, as published, unless `layers` is reduced."""

    width: int
    layers: int
    heads: int

    def config(self) -> dict[str, Any]:
        return {
            "hidden_size": self.width,
            "intermediate_size": 4 * self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
        }


@dataclass(frozen=True)
class VisionSizes(TextSizes):
    """A vision transformer as published, unless `layers` is reduced."""

    patch: int
    image: int = 224

    def config(self) -> dict[str, Any]:
        return {**super().config(), "patch_size": self.patch, "image_size": self.image}


def write_chinese_clip(folder: Path, vision: VisionSizes, text: TextSizes, dimension: int) -> Path:
    """Chinese-CLIP in the layout of Hugging Face."""
    dimensions = {
        "projection_dim": dimension,
        "vision_config": vision.config(),
        "text_config": {"vocab_size": VOCABULARY_SIZE, **text.config()},
    }
    return write_seeded_checkpoint(folder, dimensions)


def write_openai_clip(folder: Path, vision: VisionSizes, text: TextSizes, dimension: int) -> Path:
    """OpenAI's CLIP in the layout of Hugging Face, with the real vocabulary."""
    config = CLIPConfig(projection_dim=dimension, vision_config=vision.config(), text_config=text.config())
    save_seeded(CLIPModel, config, folder)
    run_reference("open_clip_reference.py", "vocabulary", str(folder))
    return folder


def write_taiyi(folder: Path, text: TextSizes, head: int | None = None) -> Path:
    """A Taiyi text tower: a BERT with its pooler, and a classification head of `head` dimensions if it is a sibling."""
    config = BertConfig(vocab_size=VOCABULARY_SIZE, num_labels=head or 2, **text.config())
    save_seeded(BertForSequenceClassification if head else BertModel, config, folder)
    shutil.copy(vocabulary(), folder / "vocab.txt")
    return folder


def write_from_cn_clip(output: Path, layout: str, vision: str, text: str, layers: str = "all") -> Path:
    """Native (a ``.pt`` file) or ModelScope (a folder), written by cn_clip's own model; names as in model_configs."""
    run_reference("cn_clip_reference.py", "write", layout, vision, text, layers, str(output))
    return output


def run_reference(script: str, *arguments: str) -> str:
    """Run a script of ``tests/reference`` apart, with the originals on its path; returns what it prints."""
    finished = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "reference" / script), *arguments],
        env={**os.environ, "PYTHONPATH": str(ENVIRONMENTS / "originals")},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout

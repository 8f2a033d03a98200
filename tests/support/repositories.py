"""Checkpoints and repositories that many tests share, made once and kept in the artefact cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel

from tests.support.artefacts import Artefacts
from tests.support.checkpoints import TextSizes, VisionSizes, write_openai_clip
from tests.support.sources import files_hash
from tuwen_build.options import BuildOptions
from tuwen_build.repository import build_repository
from tuwen_build.seeded import write_seeded_checkpoint
from tuwen_lab.demo import CHECKPOINT as DEMO_CHECKPOINT
from tuwen_repository.environment import keep_freed_memory

__all__ = [
    "SHORT_VOCABULARY",
    "Built",
    "demo_repository",
    "minimal_checkpoint",
    "minimal_clip",
    "tiny_checkpoint",
    "write_short_clip_vocabulary",
]

keep_freed_memory()  # without this, page faults take half of the time of a large build

_MINIMAL_TOWER = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
SHORT_VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"一只猫狗在睡觉的照片",
    *"abcdefghijklmnopqrstuvwxyz",
]


def tiny_checkpoint(artefacts: Artefacts, *, seed: int = 0) -> Path:
    """Return a Chinese-CLIP checkpoint in the layout of Hugging Face, small enough to build in seconds."""
    made_by = ("tuwen_build.seeded",)
    folder = artefacts.get(
        "tiny-checkpoint", lambda place: _write(place, seed), modules=made_by, options={"seed": seed}
    )
    return folder / "checkpoint"


def _write(place: Path, seed: int) -> None:
    write_seeded_checkpoint(place / "checkpoint", seed=seed)


def minimal_checkpoint(artefacts: Artefacts, *, vocabulary: list[str] | None = None) -> Path:
    """Return the smallest Chinese-CLIP checkpoint: 2 layers of width 32, images of 32 pixels, 64 text positions.

    Args:
        artefacts: the cache.
        vocabulary: the tokens; None: the published vocabulary. Most weights of the checkpoint belong to the 21,128
            tokens of the published vocabulary. With `SHORT_VOCABULARY`, a checkpoint is read in milliseconds, but most
            characters are unknown.
    """
    size = len(vocabulary or []) or 21128
    vision = {**_MINIMAL_TOWER, "image_size": 32, "patch_size": 16}
    text = {**_MINIMAL_TOWER, "vocab_size": size, "max_position_embeddings": 64}
    dimensions = {"projection_dim": 16, "vision_config": vision, "text_config": text}

    def make(place: Path) -> None:
        folder = write_seeded_checkpoint(place / "checkpoint", dimensions)
        if vocabulary:
            (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")

    options = {"dimensions": dimensions, "vocabulary": vocabulary}
    return artefacts.get("minimal-checkpoint", make, modules=("tuwen_build.seeded",), options=options) / "checkpoint"


def minimal_clip(artefacts: Artefacts, vocabulary: Path, *, dimension: int = 16) -> Path:
    """Return the smallest OpenAI CLIP checkpoint: 2 layers of width 32, and images of 32 pixels.

    Args:
        artefacts: the cache.
        vocabulary: a folder with ``vocab.json`` and ``merges.txt``, such as `write_short_clip_vocabulary` writes.
        dimension: the number of components of an embedding.
    """
    vision, text = VisionSizes(32, 2, 2, 16, 32), TextSizes(32, 2, 2)

    def make(place: Path) -> None:
        write_openai_clip(place / "checkpoint", vision, text, dimension, vocabulary)

    files = [vocabulary / name for name in ("vocab.json", "merges.txt")]
    options = {"sizes": [vision, text, dimension], "vocabulary": files_hash(files, vocabulary)}
    modules = ("tests.support.checkpoints",)
    return artefacts.get("minimal-clip", make, modules=modules, options=options) / "checkpoint"


def write_short_clip_vocabulary(folder: Path) -> Path:
    """Write ``vocab.json`` and ``merges.txt`` of a byte-pair tokenizer that knows all bytes and three merges.

    The vocabulary has the same kinds of tokens as OpenAI's: bytes, bytes that end a word, merges, and the tokens for
    start and end of text.
    """
    characters = sorted(ByteLevel.alphabet())
    merges = ["c a", "ca t</w>", "d o"]
    tokens = [
        *characters,
        *(f"{character}</w>" for character in characters),
        *(merge.replace(" ", "") for merge in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return folder


def demo_repository(artefacts: Artefacts) -> Path:
    """Return the repository of the demo's checkpoint, built as `make demo` builds it."""
    options = BuildOptions(image_rules="display")
    return Built(artefacts).of(DEMO_CHECKPOINT, "demo-repository", options)


class Built:
    """A function that builds repositories with the real build step, once for each checkpoint and set of options."""

    def __init__(self, artefacts: Artefacts) -> None:
        self._artefacts = artefacts

    def __call__(self, options: BuildOptions | None = None, *, seed: int = 0) -> Path:
        """Return the repository of the small checkpoint.

        Args:
            options: the options of the build; None: the defaults of the build.
            seed: the seed of the checkpoint's random weights.
        """
        checkpoint = tiny_checkpoint(self._artefacts, seed=seed)
        return self.of(checkpoint, "tiny-repository", options or BuildOptions(), seed=seed)

    def of(self, checkpoint: Path, name: str, options: BuildOptions, **decides: Any) -> Path:
        """Return the repository of any checkpoint.

        Args:
            checkpoint: the folder of the checkpoint. The manifest names this path, so the path is part of the key.
            name: the name of the artefact in the cache.
            options: the options of the build.
            decides: further values that determine the content.
        """

        def make(place: Path) -> None:
            build_repository(str(checkpoint), place / "repository", options)

        content = files_hash((file for file in checkpoint.rglob("*") if file.is_file()), checkpoint)
        decided_by = {"checkpoint": str(checkpoint), "content": content, "build": vars(options), **decides}
        folder = self._artefacts.get(name, make, modules=("tuwen_build.repository",), options=decided_by)
        return folder / "repository"

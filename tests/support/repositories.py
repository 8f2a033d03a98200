"""Checkpoints and repositories that many tests share, made once and kept in the artefact cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.artefacts import Artefacts
from tests.support.sources import sources_hash
from tuwen_build.allocation import keep_freed_memory
from tuwen_build.demo import CHECKPOINT as DEMO_CHECKPOINT
from tuwen_build.options import BuildOptions
from tuwen_build.repository import build_repository
from tuwen_build.seeded import write_seeded_checkpoint

__all__ = ["Built", "demo_repository", "tiny_checkpoint"]

keep_freed_memory()  # half of the time of a large build goes into page faults otherwise


def tiny_checkpoint(artefacts: Artefacts, *, seed: int = 0) -> Path:
    """Return a Chinese-CLIP checkpoint in the layout of Hugging Face, small enough to build in seconds."""
    made_by = ("tuwen_build.seeded",)
    folder = artefacts.get(
        "tiny-checkpoint", lambda place: _write(place, seed), modules=made_by, options={"seed": seed}
    )
    return folder / "checkpoint"


def _write(place: Path, seed: int) -> None:
    write_seeded_checkpoint(place / "checkpoint", seed=seed)


def demo_repository(artefacts: Artefacts) -> Path:
    """Return the repository of the demo's checkpoint, built as `make demo` builds it."""
    options = BuildOptions(image_rules="display")
    return Built(artefacts).of(DEMO_CHECKPOINT, "demo-repository", options)


class Built:
    """Builds repositories with the real build step, once for each checkpoint and set of options."""

    def __init__(self, artefacts: Artefacts) -> None:
        self._artefacts = artefacts

    def __call__(self, options: BuildOptions | None = None, *, seed: int = 0) -> Path:
        """Return the repository of the small checkpoint.

        Args:
            options: as `build_repository` takes them; by default its own.
            seed: of the checkpoint's weights.
        """
        checkpoint = tiny_checkpoint(self._artefacts, seed=seed)
        return self.of(checkpoint, "tiny-repository", options or BuildOptions(), seed=seed)

    def of(self, checkpoint: Path, name: str, options: BuildOptions, **decides: Any) -> Path:
        """Return the repository of any checkpoint.

        Args:
            checkpoint: a folder; its path stands in the manifest, so both path and content are part of the key.
            name: of the artefact.
            options: as `build_repository` takes them.
            decides: further values that decide about the content.
        """

        def make(place: Path) -> None:
            build_repository(str(checkpoint), place / "repository", options)

        content = sources_hash(file for file in checkpoint.rglob("*") if file.is_file())
        decided_by = {"checkpoint": str(checkpoint), "content": content, "build": vars(options), **decides}
        folder = self._artefacts.get(name, make, modules=("tuwen_build.repository",), options=decided_by)
        return folder / "repository"

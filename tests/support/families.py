"""Repositories built from the checkpoints of `tests.support.rows`, and the vectors of the original implementations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.artefacts import Artefacts
from tests.support.originals import Originals, Vectors, content_hash
from tests.support.rows import Row, Source
from tests.support.taiyi import embed_with_model_card
from tuwen_build.options import BuildOptions
from tuwen_build.repository import ReadOptions, build_repository

__all__ = ["ALLOWED", "build", "differing", "expected_vectors"]

ALLOWED = 1e-5  # the largest allowed difference between a component and the original's component


def build(source: Source, artefacts: Artefacts, options: BuildOptions | None = None) -> Path:
    """Return the repository that the build makes of a source. It lies in the cache: do not change its files."""
    options = options or BuildOptions()
    read_options = ReadOptions(vision=source.vision and str(source.vision), heads=source.heads)

    def make(place: Path) -> None:
        build_repository(str(source.checkpoint), place / "repository", options, read_options=read_options)

    contents = [content_hash(path) for path in (source.checkpoint, source.vision) if path]
    decides = {"source": repr(source), "contents": contents, "build": vars(options)}
    folder = artefacts.get("family-repository", make, modules=("tuwen_build.repository",), options=decides)
    return folder / "repository"


def expected_vectors(
    row: Row, source: Source, originals: Originals, images: Sequence[bytes], texts: Sequence[str]
) -> Vectors:
    """Return the vectors of images and of texts that the original implementation computes.

    The original is cn_clip for Chinese-CLIP, and open_clip for OpenAI's CLIP. For Taiyi, open_clip computes the vectors
    of images. The vectors of texts follow the recipe of Taiyi's model cards.
    """
    if row.family == "chinese-clip":
        return originals.embeddings("cn_clip", source.checkpoint, images, texts)
    if row.family == "openai-clip":
        return originals.embeddings("open_clip", source.checkpoint, images, texts)
    assert source.vision is not None
    pictured, _ = originals.embeddings("open_clip", source.vision, images, ["unused"])
    return pictured, embed_with_model_card(source.checkpoint, list(texts))


def differing(
    names: Sequence[str], got: NDArray[np.float32], expected: NDArray[np.float32], allowed: float = ALLOWED
) -> dict[str, float]:
    """Return the largest difference of each vector that differs by more than `allowed` in a component, by its name."""
    differences = np.abs(got - expected).max(axis=1).tolist()
    # "not <=" instead of ">", so that NaN counts as different
    return {name: value for name, value in zip(names, differences, strict=True) if not value <= allowed}

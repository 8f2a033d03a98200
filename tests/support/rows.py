"""Checkpoints of every row of the table of checkpoints, at any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.support.artefacts import Artefacts
from tests.support.checkpoints import (
    TextSizes,
    VisionSizes,
    write_chinese_clip,
    write_from_cn_clip,
    write_openai_clip,
    write_taiyi,
)
from tests.support.originals import Originals

__all__ = ["Row", "Source", "kept_source", "write"]


@dataclass(frozen=True)
class Row:
    """A row of the table of checkpoints.

    Attributes:
        layout: how the checkpoint is stored, which also says whose model it is.
        vision, text: the sizes of the towers, or the names of cn_clip's configurations.
        dimension: of the embeddings.
        changes: values that replace those of cn_clip's configurations.
        heads: of the image and the text tower, where a native checkpoint has no published width.
        projected: whether a Taiyi text tower has a classification head.
    """

    layout: Literal["chinese-clip", "native", "modelscope", "openai-clip", "taiyi-clip"]
    vision: VisionSizes | str
    text: TextSizes | str
    dimension: int
    image_size: int = 224
    changes: Mapping[str, object] = field(default_factory=dict)
    heads: tuple[int, int] | None = None
    projected: bool = False

    @property
    def family(self) -> str:
        """The family that the manifest names."""
        return "chinese-clip" if self.layout in ("native", "modelscope") else self.layout

    @property
    def context_length(self) -> int:
        """The number of tokens that the family was trained with."""
        return 52 if self.family == "chinese-clip" else 77


@dataclass(frozen=True)
class Source:
    """What `tuwen build` takes: a checkpoint, and for Taiyi the checkpoint of the image tower.

    Attributes:
        checkpoint: a file or folder.
        vision: the argument of ``--vision``.
        heads: the argument of ``--heads``.
    """

    checkpoint: Path
    vision: Path | None = None
    heads: tuple[int, int] | None = None


def write(row: Row, folder: Path, originals: Originals) -> Source:
    """Write the checkpoint of a row below a folder that exists and is empty."""
    if row.layout in ("native", "modelscope"):
        assert isinstance(row.vision, str)
        assert isinstance(row.text, str)
        write_from_cn_clip(originals, folder, row.layout, row.vision, row.text, row.changes)
        return _source(row, folder)
    assert isinstance(row.vision, VisionSizes)
    assert isinstance(row.text, TextSizes)
    checkpoint = folder / "checkpoint"
    if row.layout == "chinese-clip":
        write_chinese_clip(checkpoint, row.vision, row.text, row.dimension)
    elif row.layout == "openai-clip":
        write_openai_clip(checkpoint, row.vision, row.text, row.dimension, originals.clip_vocabulary())
    else:
        write_taiyi(checkpoint, row.text, row.dimension if row.projected else None)
        unused_text = TextSizes(64, 1, 4)
        write_openai_clip(folder / "clip", row.vision, unused_text, row.dimension, originals.clip_vocabulary())
    return _source(row, folder)


def kept_source(row: Row, artefacts: Artefacts, originals: Originals) -> Source:
    """Return the checkpoint of a row from the cache of artefacts. Do not change its files."""
    folder = artefacts.get(
        "family-checkpoint",
        lambda place: write(row, place, originals),
        modules=("tests.support.rows",),
        options={"row": repr(row)},
    )
    return _source(row, folder)


def _source(row: Row, folder: Path) -> Source:
    if row.layout == "native":
        return Source(folder / "clip_cn.pt", heads=row.heads)
    return Source(folder / "checkpoint", folder / "clip" if row.layout == "taiyi-clip" else None)

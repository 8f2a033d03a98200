"""Checkpoints, of any size, for the rows of the table in docs/reference/checkpoints.md."""

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
    """A row of the table of supported checkpoints.

    Attributes:
        layout: the layout of the checkpoint, which also determines the family.
        vision, text: the sizes of the towers, or the names of their configurations in cn_clip.
        dimension: the number of components of an embedding.
        image_size: the side of the images, in pixels.
        changes: new values for keys of cn_clip's configurations.
        heads: the numbers of attention heads of image tower and text tower. A native checkpoint needs these numbers if
            no published model has its width. None: the build finds the numbers.
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
        """The family of the checkpoint, as the manifest names it."""
        return "chinese-clip" if self.layout in ("native", "modelscope") else self.layout

    @property
    def context_length(self) -> int:
        """The maximum number of tokens of a text in the training of the family."""
        return 52 if self.family == "chinese-clip" else 77


@dataclass(frozen=True)
class Source:
    """The input of `tuwen build`: a checkpoint, and for Taiyi also the checkpoint of the image tower.

    Attributes:
        checkpoint: the file or folder of the checkpoint.
        vision: the argument of ``--vision``; None: the option is left out.
        heads: the arguments of ``--heads``; None: the option is left out.
    """

    checkpoint: Path
    vision: Path | None = None
    heads: tuple[int, int] | None = None


def write(row: Row, folder: Path, originals: Originals) -> Source:
    """Write the checkpoint of a row into a folder that exists and is empty."""
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
    """Return the checkpoint of a row. It lies in the cache of artefacts: do not change its files."""
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

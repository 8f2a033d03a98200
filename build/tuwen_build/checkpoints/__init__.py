"""Checkpoints of every family, read into one shape.

A family in a layout is one module with one `Reader`; adding one is a file here, a line in ``READERS`` and a test.
"""

from __future__ import annotations

from tuwen_build.checkpoints._checkpoint import Checkpoint, Preprocessing, Reader, Reference, Tokenization
from tuwen_build.checkpoints._chinese_clip import ChineseClipReader
from tuwen_build.checkpoints._source import locate
from tuwen_build.errors import CheckpointError

__all__ = ["READERS", "Checkpoint", "Preprocessing", "Reader", "Reference", "Tokenization", "open_checkpoint"]

READERS: tuple[Reader, ...] = (ChineseClipReader(),)


def open_checkpoint(source: str) -> Checkpoint:
    """Read a checkpoint: a folder, or a hub id such as ``OFA-Sys/chinese-clip-vit-base-patch16``.

    Raises:
        CheckpointError: it is missing, incomplete, or of no family that this build knows.
    """
    folder = locate(source)
    for reader in READERS:
        if reader.recognises(folder):
            return reader.read(folder, source)
    known = "; ".join(reader.layout for reader in READERS)
    files = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise CheckpointError(f"{source} is no checkpoint that this build knows ({known}). The folder holds: {files}")

"""Readers for the checkpoints of every family. All readers return the same dataclass, `Checkpoint`.

Each pair of a family and a layout on disk has one module with one `Reader`. To add a pair, add a module here, list its
reader in ``READERS``, and write a test.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tuwen_build.checkpoints._adapters import merged_checkpoint
from tuwen_build.checkpoints._checkpoint import (
    Checkpoint,
    ImageProcessor,
    Origin,
    Preprocessing,
    Reader,
    Reference,
    Tokenization,
)
from tuwen_build.checkpoints._chinese_clip import ChineseClip, ChineseClipReader, read_chinese_clip
from tuwen_build.checkpoints._modelscope import ModelScopeReader
from tuwen_build.checkpoints._native import NativeReader
from tuwen_build.checkpoints._openai_clip import OpenAiClipReader
from tuwen_build.checkpoints._preprocessor import MEAN, STD
from tuwen_build.checkpoints._source import locate
from tuwen_build.checkpoints._taiyi import TaiyiReader
from tuwen_build.checkpoints._tokenizers import reference_tokenizer
from tuwen_build.errors import CheckpointError
from tuwen_build.options import ReadOptions

__all__ = [
    "MEAN",
    "READERS",
    "STD",
    "Checkpoint",
    "ChineseClip",
    "ChineseClipReader",
    "ImageProcessor",
    "Preprocessing",
    "ReadOptions",
    "Reader",
    "Reference",
    "Tokenization",
    "locate",
    "open_checkpoint",
    "read_chinese_clip",
    "reference_tokenizer",
]

READERS: tuple[Reader, ...] = (
    ChineseClipReader(),
    OpenAiClipReader(),
    TaiyiReader(),
    ModelScopeReader(),
    NativeReader(),
)


def open_checkpoint(source: str, options: ReadOptions | None = None) -> Checkpoint:
    """Read a checkpoint: a folder, a file, or a hub id such as ``OFA-Sys/chinese-clip-vit-base-patch16``.

    Raises:
        CheckpointError: the checkpoint is missing, incomplete, or not of a known family. For an adapter, the same
            error is raised if `ReadOptions.merge_adapter` is off or if the merge fails.
        MissingExtraError: an adapter must be merged, and peft is not installed.
    """
    options = options or ReadOptions()
    if not options.merge_adapter:
        return _open(locate(source), source, options)
    with merged_checkpoint(source) as merged:
        checkpoint = _open(merged.folder, source, replace(options, merge_adapter=False))
    origin = checkpoint.origin
    layout = f"{origin.layout}, with its adapter merged"
    beside = {name: path for name, path in origin.files.items() if not path.is_relative_to(merged.folder)}
    return replace(checkpoint, origin=Origin(origin.source, layout, {**merged.files, **beside}))


def _open(path: Path, source: str, options: ReadOptions) -> Checkpoint:
    for reader in READERS:
        if reader.recognises(path):
            _check_options(reader, source, options)
            return reader.read(path, source, options)
    known = "\n  ".join(reader.layout for reader in READERS)
    raise CheckpointError(
        f"{source} is not a checkpoint of a known layout. It holds: {_contents(path)}. Known layouts:\n  {known}"
    )


def _check_options(reader: Reader, source: str, options: ReadOptions) -> None:
    for name, value in vars(options).items():
        if value not in (None, False) and name not in reader.options:
            raise CheckpointError(f"--{name} does not apply to {source} ({reader.layout}); leave the option out")


def _contents(path: Path) -> str:
    if path.is_file():
        return "one file"
    return ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"

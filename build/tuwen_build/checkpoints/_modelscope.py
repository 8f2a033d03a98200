"""Chinese-CLIP as ModelScope keeps it (``damo/multi-modal_clip-vit-*_zh``): native weights beside JSON files."""

from __future__ import annotations

from pathlib import Path

from tuwen_build.checkpoints._architecture import described
from tuwen_build.checkpoints._checkpoint import Checkpoint, Origin
from tuwen_build.checkpoints._json import load_json
from tuwen_build.checkpoints._native import native_checkpoint
from tuwen_build.checkpoints._native_names import native_weights, rounded_to_half
from tuwen_build.checkpoints._weights import load_pickled_weights
from tuwen_build.errors import CheckpointError
from tuwen_build.options import ReadOptions

__all__ = ["ModelScopeReader"]

_CONFIGS = ("vision_model_config.json", "text_model_config.json")
_WEIGHTS = "pytorch_model.bin"


class ModelScopeReader:
    """The reader of ModelScope's layout. It rounds weights to float16, as ModelScope's own pipeline does on loading."""

    layout = "Chinese-CLIP, ModelScope: vision_model_config.json, text_model_config.json, pytorch_model.bin, vocab.txt"
    options: frozenset[str] = frozenset()

    def recognises(self, path: Path) -> bool:
        return any((path / name).is_file() for name in _CONFIGS)

    def read(self, path: Path, source: str, options: ReadOptions) -> Checkpoint:  # noqa: ARG002 - it takes none
        for name in (*_CONFIGS, _WEIGHTS):
            if not (path / name).is_file():
                raise CheckpointError(f"{path}: {name} is missing; every release on ModelScope has this file")
        vision, text = (load_json(path / name) for name in _CONFIGS)
        weights = rounded_to_half(native_weights(load_pickled_weights(path / _WEIGHTS)))
        return native_checkpoint(
            weights,
            described(vision, text, weights, path),
            Origin(source, "ModelScope layout", {name: path / name for name in (*_CONFIGS, _WEIGHTS)}),
            path / "vocab.txt",
        )

"""Chinese-CLIP's own format: one ``clip_cn_*.pt``. The shapes of its tensors show the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import ChineseCLIPConfig, ChineseCLIPModel

from tuwen_build.checkpoints._architecture import Architecture, ResNetShape, VisionTransformerShape, inferred
from tuwen_build.checkpoints._checkpoint import Checkpoint, Origin, Preprocessing
from tuwen_build.checkpoints._chinese_clip import chinese_clip_checkpoint
from tuwen_build.checkpoints._image_processor import published_image_processor
from tuwen_build.checkpoints._native_names import native_weights, transformers_weights
from tuwen_build.checkpoints._native_resnet import resnet_checkpoint
from tuwen_build.checkpoints._native_text import text_settings
from tuwen_build.checkpoints._numbers import check_finite
from tuwen_build.checkpoints._preprocessor import MEAN, STD
from tuwen_build.checkpoints._tokenizers import chinese_clip_tokenization
from tuwen_build.checkpoints._weights import load_pickled_weights, load_strictly
from tuwen_build.errors import CheckpointError
from tuwen_build.options import ReadOptions
from tuwen_repository.samples import vocabulary

__all__ = ["NativeReader", "native_checkpoint"]

_SUFFIXES = (".pt", ".pth")


class NativeReader:
    """The reader of a native weights file, or of a folder with one such file, like RN50's repository on the hub."""

    layout = "Chinese-CLIP, native: a clip_cn_*.pt file, or a folder with one"
    options = frozenset({"heads"})

    def recognises(self, path: Path) -> bool:
        return path.is_file() or bool(_weight_files(path))

    def read(self, path: Path, source: str, options: ReadOptions) -> Checkpoint:
        file = path if path.is_file() else _only(_weight_files(path), source)
        weights = native_weights(load_pickled_weights(file))
        architecture = inferred(weights, file, options.heads)
        beside = file.parent / "vocab.txt"
        # The file holds no vocabulary. cn_clip ships one vocabulary for all sizes, and so does this package.
        vocabulary_file = beside if beside.is_file() else vocabulary()
        return native_checkpoint(
            weights, architecture, Origin(source, "native layout", {file.name: file}), vocabulary_file
        )


def native_checkpoint(
    weights: Mapping[str, Tensor], architecture: Architecture, origin: Origin, vocabulary_file: Path
) -> Checkpoint:
    """Return a checkpoint from native weights.

    A vision transformer becomes transformers' model, a ResNet becomes our own tower.

    Raises:
        CheckpointError: a weight is missing, unexpected, of a wrong shape, NaN or infinite.
    """
    check_finite(weights, origin.source)
    preprocessing = Preprocessing(architecture.vision.image_size, "squash", MEAN, STD)
    text = architecture.text
    tokenization = chinese_clip_tokenization(vocabulary_file, text.vocabulary_size, text.positions)
    if isinstance(architecture.vision, ResNetShape):
        return resnet_checkpoint(
            weights, text, architecture.vision, origin=origin, preprocessing=preprocessing, tokenization=tokenization
        )
    config = ChineseCLIPConfig(
        projection_dim=architecture.embedding_dimension,
        vision_config=_vision_settings(architecture.vision),
        text_config=text_settings(text),
    )
    model = ChineseCLIPModel(config)
    model.train(False)
    load_strictly(model, transformers_weights(weights), origin.source)
    image_processor = published_image_processor(preprocessing.image_size, "squash")
    return chinese_clip_checkpoint(model, origin, preprocessing, tokenization, image_processor)


def _vision_settings(vision: VisionTransformerShape) -> dict[str, Any]:
    return {
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "hidden_size": vision.width,
        "intermediate_size": 4 * vision.width,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }


def _weight_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())


def _only(files: list[Path], source: str) -> Path:
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise CheckpointError(f"{source}: the folder holds several weights files: {names}; pass the path of one file")
    return files[0]

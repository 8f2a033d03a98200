"""Chinese-CLIP in the layout of Hugging Face: ``config.json``, safetensors or ``.bin``, and a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import ChineseCLIPModel

from tuwen_build.checkpoints._checkpoint import (
    Checkpoint,
    ImageProcessor,
    Origin,
    Preprocessing,
    Tokenization,
)
from tuwen_build.checkpoints._descriptions import bert_in_words, vision_transformer_in_words
from tuwen_build.checkpoints._image_processor import saved_image_processor
from tuwen_build.checkpoints._numbers import exponential_of
from tuwen_build.checkpoints._preprocessor import read_preprocessing
from tuwen_build.checkpoints._pretrained import features_reference, load_pretrained, model_type, weight_files
from tuwen_build.checkpoints._tokenizers import chinese_clip_tokenization
from tuwen_build.options import ReadOptions
from tuwen_build.towers import TextTower, VisionTransformerTower

__all__ = ["ChineseClip", "ChineseClipReader", "chinese_clip_checkpoint", "read_chinese_clip"]


@dataclass(frozen=True)
class ChineseClip:
    """The transformers model in float32 and eval mode, for the build and for training."""

    model: Any
    preprocessing: Preprocessing
    tokenization: Tokenization


def read_chinese_clip(path: Path) -> ChineseClip:
    """Read a folder in the layout of Hugging Face.

    Raises:
        CheckpointError: a file is missing, or its content does not fit the layout.
    """
    model = load_pretrained(ChineseCLIPModel, path, unused=("pooler.dense.weight", "pooler.dense.bias"))
    config: Any = model.config
    text = config.text_config
    return ChineseClip(
        model,
        read_preprocessing(path, config.vision_config.image_size, "squash"),
        chinese_clip_tokenization(path / "vocab.txt", text.vocab_size, text.max_position_embeddings),
    )


class ChineseClipReader:
    """The reader of every Chinese-CLIP that has a vision transformer, in the layout of Hugging Face.

    transformers has no class for Chinese-CLIP's RN50.
    """

    layout = "Chinese-CLIP, Hugging Face layout: config.json with model_type chinese_clip"
    options: frozenset[str] = frozenset()

    def recognises(self, path: Path) -> bool:
        return model_type(path) == "chinese_clip"

    def read(self, path: Path, source: str, options: ReadOptions) -> Checkpoint:  # noqa: ARG002 - it takes none
        clip = read_chinese_clip(path)
        origin = Origin(source, "Hugging Face layout", weight_files(path))
        image_processor = saved_image_processor(path, clip.preprocessing.image_size, "squash")
        return chinese_clip_checkpoint(clip.model, origin, clip.preprocessing, clip.tokenization, image_processor)


def chinese_clip_checkpoint(
    model: Any,
    origin: Origin,
    preprocessing: Preprocessing,
    tokenization: Tokenization,
    image_processor: ImageProcessor,
) -> Checkpoint:
    """Return a checkpoint from a `ChineseCLIPModel` of transformers. The model's feature methods are the reference."""
    config = model.config
    return Checkpoint(
        family="chinese-clip",
        origin=origin,
        vision=VisionTransformerTower(model.vision_model, model.visual_projection),
        text=TextTower(model.text_model, model.text_projection),
        vision_architecture=vision_transformer_in_words(config.vision_config),
        text_architecture=bert_in_words(config.text_config),
        reference=features_reference(model, tokenization, image_processor),
        preprocessing=preprocessing,
        tokenization=tokenization,
        embedding_dimension=config.projection_dim,
        depth=max(config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers),
        logit_scale=exponential_of(model.logit_scale, origin.source),
    )

"""OpenAI CLIP in the layout of Hugging Face: ``config.json``, weights, and a vocabulary with merges."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import CLIPModel

from tuwen_build.checkpoints._checkpoint import Checkpoint, Origin
from tuwen_build.checkpoints._descriptions import transformer_in_words, vision_transformer_in_words
from tuwen_build.checkpoints._image_processor import saved_image_processor
from tuwen_build.checkpoints._numbers import exponential_of
from tuwen_build.checkpoints._preprocessor import read_preprocessing
from tuwen_build.checkpoints._pretrained import features_reference, load_pretrained, model_type, weight_files
from tuwen_build.checkpoints._tokenizers import clip_tokenization
from tuwen_build.options import ReadOptions
from tuwen_build.towers import TextTower, VisionTransformerTower

__all__ = ["OpenAiClipReader"]


class OpenAiClipReader:
    """The reader of every OpenAI CLIP that has a vision transformer, in the layout of Hugging Face.

    transformers has no class for OpenAI CLIP's ResNets.
    """

    layout = (
        "OpenAI CLIP, Hugging Face layout: config.json with model_type clip, "
        "vocab.json and merges.txt or tokenizer.json"
    )
    options: frozenset[str] = frozenset()

    def recognises(self, path: Path) -> bool:
        return model_type(path) == "clip"

    def read(self, path: Path, source: str, options: ReadOptions) -> Checkpoint:  # noqa: ARG002 - it takes none
        model = load_pretrained(CLIPModel, path)
        vision, text = model.config.vision_config, model.config.text_config
        tokenization = clip_tokenization(path, text.vocab_size, text.max_position_embeddings)
        preprocessing = read_preprocessing(path, vision.image_size, "crop")
        image_processor = saved_image_processor(path, vision.image_size, "crop")
        return Checkpoint(
            family="openai-clip",
            origin=Origin(source, "Hugging Face layout", weight_files(path)),
            vision=VisionTransformerTower(model.vision_model, model.visual_projection),
            text=TextTower(
                model.text_model,
                nn.Sequential(model.text_model.final_layer_norm, model.text_projection),
                causal_length=text.max_position_embeddings,
            ).eval(),
            vision_architecture=vision_transformer_in_words(vision),
            text_architecture=f"causal transformer, {transformer_in_words(text)}",
            reference=features_reference(model, tokenization, image_processor),
            preprocessing=preprocessing,
            tokenization=tokenization,
            embedding_dimension=model.config.projection_dim,
            depth=max(vision.num_hidden_layers, text.num_hidden_layers),
            logit_scale=exponential_of(model.logit_scale, source),
        )

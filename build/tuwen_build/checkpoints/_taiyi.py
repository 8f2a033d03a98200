"""Taiyi-CLIP: a Chinese text tower that was trained against the frozen image tower of an OpenAI CLIP.

The model cards (IDEA-CCNL on the Hugging Face hub) define the embedding. For 102M-ViT-L it is ``BertModel(ids)[1]``,
BERT's tanh pooler without a projection. For the other models it is ``BertForSequenceClassification(ids).logits``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertForSequenceClassification, BertModel

from tuwen_build.checkpoints._checkpoint import Checkpoint, Origin
from tuwen_build.checkpoints._descriptions import bert_in_words
from tuwen_build.checkpoints._openai_clip import OpenAiClipReader
from tuwen_build.checkpoints._pretrained import load_pretrained, model_type, weight_files, weight_names
from tuwen_build.checkpoints._source import locate
from tuwen_build.checkpoints._tokenizers import reference_tokenizer, taiyi_tokenization
from tuwen_build.errors import CheckpointError
from tuwen_build.options import ReadOptions
from tuwen_build.towers import TextTower

__all__ = ["TaiyiReader"]

_TRAINED_WITH = {512: "openai/clip-vit-base-patch32", 768: "openai/clip-vit-large-patch14"}


class TaiyiReader:
    """The reader of a Taiyi text tower. The CLIP checkpoint in the options adds the image tower and the logit scale."""

    layout = (
        "Taiyi-CLIP: config.json with model_type bert, vocab.txt or tokenizer.json, "
        "and an OpenAI CLIP named by --vision"
    )
    options = frozenset({"vision"})

    def recognises(self, path: Path) -> bool:
        return model_type(path) == "bert"

    def read(self, path: Path, source: str, options: ReadOptions) -> Checkpoint:
        bert, projection, dimension = _load_text_model(path)
        config = bert.config
        image = _image_checkpoint(source, dimension, options.vision)
        tokenization = taiyi_tokenization(path, config.vocab_size, config.max_position_embeddings)

        @torch.inference_mode()
        def embed_texts(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return projection(bert(input_ids=input_ids, attention_mask=attention_mask)[1])  # type: ignore[no-any-return]

        return replace(
            image,
            family="taiyi-clip",
            origin=Origin(
                f"{source} with {options.vision}",
                f"a text tower, with the image tower of {options.vision}",
                {**weight_files(path), **{f"vision/{name}": file for name, file in image.origin.files.items()}},
            ),
            text=TextTower(bert, nn.Sequential(bert.pooler.dense, bert.pooler.activation, projection)).eval(),
            text_architecture=f"{bert_in_words(config)}, tanh pooler"
            + ("" if isinstance(projection, nn.Identity) else f", projection to {dimension}"),
            reference=replace(image.reference, embed_texts=embed_texts, tokenize=reference_tokenizer(tokenization)),
            tokenization=tokenization,
            depth=max(image.depth, config.num_hidden_layers),
        )


def _load_text_model(folder: Path) -> tuple[Any, nn.Module, int]:
    """Return BERT, the projection of its pooled output, and the dimension of the embeddings."""
    if any(name.startswith("classifier.") for name in weight_names(folder)):
        classifier = load_pretrained(BertForSequenceClassification, folder)
        return classifier.bert.eval(), classifier.classifier, classifier.classifier.out_features
    bert = load_pretrained(BertModel, folder)
    return bert.eval(), nn.Identity(), bert.config.hidden_size


def _image_checkpoint(source: str, dimension: int, vision: str | None) -> Checkpoint:
    if vision is None:
        suggestion = _TRAINED_WITH.get(dimension, "openai/clip-vit-large-patch14")
        raise CheckpointError(
            f"{source} holds only the text tower of a Taiyi-CLIP. Pass the OpenAI CLIP with which it was trained, as a "
            f"hub id or a folder, such as --vision {suggestion}"
        )
    path, reader = locate(vision), OpenAiClipReader()
    if not reader.recognises(path):
        raise CheckpointError(
            f"--vision: expected the OpenAI CLIP with which the Taiyi model was trained ({reader.layout}), got {vision}"
        )
    image = reader.read(path, vision, ReadOptions())
    if image.embedding_dimension != dimension:
        raise CheckpointError(
            f"--vision: expected an image tower with {dimension} dimensions, as {source} has; {vision} has "
            f"{image.embedding_dimension}. Pass the OpenAI CLIP with which the Taiyi model was trained"
        )
    return image

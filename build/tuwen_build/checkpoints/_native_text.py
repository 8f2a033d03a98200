"""The text tower of a native checkpoint, in transformers' terms."""

from __future__ import annotations

from typing import Any

from tuwen_build.checkpoints._architecture import BertShape

__all__ = ["text_settings"]


def text_settings(text: BertShape) -> dict[str, Any]:
    """Return the arguments of `ChineseCLIPTextConfig`."""
    return {
        "vocab_size": text.vocabulary_size,
        "max_position_embeddings": text.positions,
        "type_vocab_size": text.types,
        "hidden_size": text.width,
        "intermediate_size": text.intermediate,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "hidden_act": text.activation,
        "layer_norm_eps": 1e-12,
    }

"""What a tower is, in words for people."""

from __future__ import annotations

from typing import Any

__all__ = ["bert_in_words", "transformer_in_words", "vision_transformer_in_words"]


def vision_transformer_in_words(config: Any) -> str:
    """Such as ``ViT, patch 16, 768 wide, 12 layers, 12 heads, quick_gelu``; `config` is one of transformers."""
    return f"ViT, patch {config.patch_size}, {transformer_in_words(config)}"


def bert_in_words(config: Any) -> str:
    """Such as ``BERT, 768 wide, 12 layers, 12 heads, gelu``."""
    return f"BERT, {transformer_in_words(config)}"


def transformer_in_words(config: Any) -> str:
    """Such as ``768 wide, 12 layers, 12 heads, gelu``."""
    return (
        f"{config.hidden_size} wide, {config.num_hidden_layers} layers, {config.num_attention_heads} heads, "
        f"{config.hidden_act}"
    )

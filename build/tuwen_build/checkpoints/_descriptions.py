"""Short descriptions of towers, for output to users."""

from __future__ import annotations

from typing import Any

__all__ = ["bert_in_words", "transformer_in_words", "vision_transformer_in_words"]


def vision_transformer_in_words(config: Any) -> str:
    """Return ``ViT, patch 16, 768 wide, 12 layers, 12 heads, quick_gelu`` or similar for a transformers config."""
    return f"ViT, patch {config.patch_size}, {transformer_in_words(config)}"


def bert_in_words(config: Any) -> str:
    """Return ``BERT, 768 wide, 12 layers, 12 heads, gelu`` or similar."""
    return f"BERT, {transformer_in_words(config)}"


def transformer_in_words(config: Any) -> str:
    """Return ``768 wide, 12 layers, 12 heads, gelu`` or similar."""
    return (
        f"{config.hidden_size} wide, {config.num_hidden_layers} layers, {config.num_attention_heads} heads, "
        f"{config.hidden_act}"
    )

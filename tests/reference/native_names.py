"""The weights of a Hugging Face checkpoint, under their names in cn_clip or in OpenAI's CLIP.

This module does not use the build's code that renames weights, because tests check that code with it.
"""

from __future__ import annotations

import torch

__all__ = ["native_names", "transformer_names"]

_LAYER = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def native_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a Chinese-CLIP checkpoint's weights under cn_clip's names, or a CLIP checkpoint's under OpenAI's names."""
    native = {
        "logit_scale": weights["logit_scale"],
        "text_projection": weights["text_projection.weight"].T,
        "visual.proj": weights["visual_projection.weight"].T,
        "visual.class_embedding": weights["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": weights["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": weights["vision_model.embeddings.position_embedding.weight"],
        **transformer_names(weights, "vision_model", "visual.transformer"),
    }
    for kind in ("weight", "bias"):
        native[f"visual.ln_pre.{kind}"] = weights[f"vision_model.pre_layrnorm.{kind}"]
        native[f"visual.ln_post.{kind}"] = weights[f"vision_model.post_layernorm.{kind}"]
    for name, tensor in weights.items():
        if name.startswith("text_model.encoder.layer.") or "_embeddings." in name or "embeddings.LayerNorm" in name:
            native["bert." + name.removeprefix("text_model.")] = tensor
    return native


def transformer_names(weights: dict[str, torch.Tensor], ours: str, theirs: str) -> dict[str, torch.Tensor]:
    """Return the weights of a transformer's layers under the names in OpenAI's CLIP.

    Args:
        weights: the weights under Hugging Face's names.
        ours: the prefix of the transformer in `weights`, such as ``vision_model``.
        theirs: the prefix in OpenAI's CLIP, such as ``visual.transformer``.
    """
    native = {}
    layers = {name.split(".")[3] for name in weights if name.startswith(f"{ours}.encoder.layers.")}
    for layer in layers:
        source, target = f"{ours}.encoder.layers.{layer}", f"{theirs}.resblocks.{layer}"
        for kind in ("weight", "bias"):
            for new, old in _LAYER.items():
                native[f"{target}.{new}.{kind}"] = weights[f"{source}.{old}.{kind}"]
            native[f"{target}.attn.in_proj_{kind}"] = torch.cat(
                [weights[f"{source}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            )
    return native

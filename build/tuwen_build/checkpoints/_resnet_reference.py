"""A second implementation of CLIP's ResNet, after OpenAI's code. The exported tower is compared with it.

Batch norms are separate from convolutions, and attention is torch's own multi-head attention. The functions take the
raw weights and share no code with the exported tower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["resnet_reference"]


def resnet_reference(weights: Mapping[str, Tensor], heads: int) -> Callable[[Tensor], Tensor]:
    """Compute un-normalised embeddings (n, D) of normalised pixels (n, 3, S, S)."""

    def convolved(hidden: Tensor, place: str, convolution: str, norm: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{place}{convolution}.weight"]
        hidden = functional.conv2d(hidden, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        scale, shift, mean, variance = (
            weights[f"{place}{norm}.{kind}"] for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return functional.batch_norm(hidden, mean, variance, scale, shift)

    def bottleneck(hidden: Tensor, place: str, stride: int) -> Tensor:
        branch = functional.relu(convolved(hidden, place, "conv1", "bn1"))
        branch = functional.relu(convolved(branch, place, "conv2", "bn2"))
        branch = convolved(functional.avg_pool2d(branch, stride), place, "conv3", "bn3")
        if f"{place}downsample.0.weight" in weights:
            hidden = convolved(functional.avg_pool2d(hidden, stride), place, "downsample.0", "downsample.1")
        return functional.relu(branch + hidden)

    def pooled(hidden: Tensor) -> Tensor:
        sequence = hidden.flatten(2).permute(2, 0, 1)
        sequence = torch.cat([sequence.mean(dim=0, keepdim=True), sequence])
        sequence = sequence + weights["attnpool.positional_embedding"][:, None]
        attended, _ = functional.multi_head_attention_forward(
            query=sequence,
            key=sequence,
            value=sequence,
            embed_dim_to_check=sequence.shape[-1],
            num_heads=heads,
            in_proj_weight=None,
            in_proj_bias=torch.cat([weights[f"attnpool.{part}_proj.bias"] for part in "qkv"]),
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=weights["attnpool.c_proj.weight"],
            out_proj_bias=weights["attnpool.c_proj.bias"],
            training=False,
            need_weights=False,
            use_separate_proj_weight=True,
            q_proj_weight=weights["attnpool.q_proj.weight"],
            k_proj_weight=weights["attnpool.k_proj.weight"],
            v_proj_weight=weights["attnpool.v_proj.weight"],
        )
        return attended[0]

    @torch.inference_mode()
    def embed_images(pixel_values: Tensor) -> Tensor:
        hidden = pixel_values
        for index, stride in ((1, 2), (2, 1), (3, 1)):
            hidden = functional.relu(convolved(hidden, "", f"conv{index}", f"bn{index}", stride))
        hidden = functional.avg_pool2d(hidden, 2)
        for layer in (1, 2, 3, 4):
            block = 0
            while f"layer{layer}.{block}.conv1.weight" in weights:
                hidden = bottleneck(hidden, f"layer{layer}.{block}.", 2 if layer > 1 and block == 0 else 1)
                block += 1
        return pooled(hidden)

    return embed_images

"""The two towers in training, whose image tower sees a random share of patches, and new models with random weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ChineseCLIPConfig, ChineseCLIPModel

__all__ = ["DEMO_ARCHITECTURE", "TwoTowers", "new_model"]

# The largest model in 12 MB of half precision. Half of the parameters belong to the vocabulary.
DEMO_ARCHITECTURE: dict[str, Any] = {
    "projection_dim": 256,
    "logit_scale_init_value": 3.4,  # a factor of 30, because a short training cannot learn the scale
    "vision_config": {
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "image_size": 64,
        "patch_size": 8,
        "hidden_act": "gelu",
    },
    "text_config": {
        "vocab_size": 21128,
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "attention_probs_dropout_prob": 0.0,
    },
}

# Directions with less variance than this are mostly noise and are not scaled up.
_QUIET = 0.3


class TwoTowers(nn.Module):
    """transformers' `ChineseCLIPModel` with unit vectors as outputs.

    Attributes:
        clip: the model, which is saved as the checkpoint.
    """

    def __init__(self, clip: ChineseCLIPModel) -> None:
        super().__init__()
        self.clip = clip

    def images(self, pixel_values: Tensor, kept_patches: float = 1.0) -> Tensor:
        """Return vectors (n, D) of normalised pixels (n, 3, S, S). The tower sees a random share of patches (FLIP)."""
        tower: Any = self.clip.vision_model
        states = tower.embeddings(pixel_values)
        if kept_patches < 1:
            count, length, width = states.shape
            kept = max(1, round((length - 1) * kept_patches))
            order = torch.rand(count, length - 1, device=states.device).argsort(dim=1)[:, :kept] + 1
            chosen = states.gather(1, order.unsqueeze(2).expand(-1, -1, width))
            states = torch.cat([states[:, :1], chosen], dim=1)
        encoded = tower.encoder(inputs_embeds=tower.pre_layrnorm(states)).last_hidden_state[:, 0]
        projected = self.clip.visual_projection(tower.post_layernorm(encoded))
        return functional.normalize(projected.float(), dim=-1)

    def texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the vectors, float32 (m, D), of token ids (m, L)."""
        tower: Any = self.clip.text_model
        encoded = tower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        return functional.normalize(self.clip.text_projection(encoded).float(), dim=-1)

    def freeze_images(self, frozen: bool) -> None:
        """Freeze or unfreeze the image tower."""
        for module in (self.clip.vision_model, self.clip.visual_projection):
            module.requires_grad_(not frozen)


@torch.no_grad()
def new_model(architecture: dict[str, Any], pixel_values: Tensor) -> ChineseCLIPModel:
    """Return a model with random weights and an image tower that is initialised from pictures.

    The patch filters are the whitened principal components of the pictures' patches. The position embeddings are the
    two-dimensional sines and cosines of MoCo v3 (Chen et al. 2021). Random filters would need thousands of steps to
    learn such filters.

    Args:
        architecture: the arguments of `ChineseCLIPConfig`.
        pixel_values: a few hundred normalised pictures, float32 (n, 3, S, S).
    """
    model = ChineseCLIPModel(ChineseCLIPConfig(**architecture))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embedding" not in name:
            # Inputs and outputs have the same variance. With transformers' 0.02, all pictures and all texts begin with
            # nearly the same vector, and a thousand steps pass until the vectors differ.
            parameter.normal_(std=parameter.shape[1] ** -0.5)
    for layer in model.vision_model.encoder.layers:  # so that the sum over the layers stays in bounds (GPT-2)
        for branch in (layer.self_attn.out_proj, layer.mlp.fc2):
            branch.weight.mul_((2 * len(model.vision_model.encoder.layers)) ** -0.5)
    embeddings: Any = model.vision_model.embeddings
    filters = embeddings.patch_embedding.weight
    width, patch = filters.shape[0], filters.shape[-1]
    patches = functional.unfold(pixel_values, patch, stride=patch).transpose(1, 2).flatten(0, 1)
    patches = patches - patches.mean(0)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    count = min(width, len(variances))
    largest = torch.arange(len(variances) - 1, len(variances) - 1 - count, -1)
    whitened = directions[:, largest] / (variances[largest] + _QUIET).sqrt()
    filters[:count] = whitened.T.reshape(count, *filters.shape[1:])
    side = pixel_values.shape[-1] // patch
    embeddings.position_embedding.weight[0] = 0
    embeddings.position_embedding.weight[1:] = _sines(side, width) * 0.3  # smaller than the patches' values
    embeddings.class_embedding.zero_()
    return model


def _sines(side: int, width: int) -> Tensor:
    """Return the position embeddings of a square grid, row by row: (side * side, width)."""
    quarter = width // 4
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(quarter) / quarter)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in (column, row)]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return functional.pad(table, (0, width - table.shape[1]))

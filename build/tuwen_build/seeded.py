"""A Chinese-CLIP checkpoint of any size with seeded random weights, in the real layout but untrained.

Tests and benchmarks use it instead of real weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import ChineseCLIPConfig, ChineseCLIPModel

from tuwen_repository.samples import vocabulary

__all__ = ["BASE_PATCH16", "HUGE_PATCH14", "LARGE_PATCH14", "TINY", "perturb", "save_seeded", "write_seeded_checkpoint"]

# The published dimensions of OFA-Sys/chinese-clip-vit-base-patch16 (cn_clip/clip/model_configs/ViT-B-16.json
# and RoBERTa-wwm-ext-base-chinese.json); the other values are the defaults of transformers' classes.
BASE_PATCH16: dict[str, Any] = {
    "projection_dim": 512,
    "vision_config": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16},
    "text_config": {"vocab_size": 21128, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
}
# The dimensions of OFA-Sys/chinese-clip-vit-large-patch14 and -huge-patch14 (ViT-L-14.json, ViT-H-14.json,
# RoBERTa-wwm-ext-large).
LARGE_PATCH14: dict[str, Any] = {
    "projection_dim": 768,
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "text_config": BASE_PATCH16["text_config"],
}
HUGE_PATCH14: dict[str, Any] = {
    "projection_dim": 1024,
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
    },
    "text_config": {
        "vocab_size": 21128,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}
# Small enough to build and serve in seconds.
TINY: dict[str, Any] = {
    "projection_dim": 64,
    "vision_config": {
        "hidden_size": 96,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
    },
    "text_config": {
        "vocab_size": 21128,
        "hidden_size": 96,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
    },
}


def write_seeded_checkpoint(folder: Path, dimensions: dict[str, Any] = TINY, *, seed: int = 0) -> Path:
    """Write an untrained checkpoint in the Hugging Face Chinese-CLIP layout.

    Args:
        folder: the folder to write. It is created if necessary.
        dimensions: the arguments of `ChineseCLIPConfig`.
        seed: the seed of the random weights. Equal seeds give equal weights.

    Returns:
        The folder.
    """
    save_seeded(ChineseCLIPModel, ChineseCLIPConfig(**dimensions), folder, seed=seed)
    shutil.copy(vocabulary(), folder / "vocab.txt")
    return folder


def save_seeded(model_class: Any, config: Any, folder: Path, *, seed: int = 0) -> None:
    """Save a model of transformers with seeded random weights into a folder, which is created if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config)
        perturb(model)
    model.save_pretrained(folder)


@torch.no_grad()
def perturb(model: nn.Module) -> None:
    """Give every weight of a CLIP model random values with which an error in any layer changes the output.

    With the initial zeros and ones, a forgotten bias or swapped norms would not change the output. Matrices preserve
    the variance of their inputs. The matrices of query and key are twice as large, so that attention is sharp. With
    transformers' initial standard deviation of 0.02, the output would depend on little but the class token.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        elif parameter.ndim == 4:
            parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)  # He et al. 2015, for rectifiers
        elif parameter.ndim == 2 and "embedding" not in name:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
            if name.endswith(("query.weight", "key.weight", "q_proj.weight", "k_proj.weight")):
                parameter.mul_(2)
            elif name.endswith("in_proj_weight"):
                parameter[: 2 * parameter.shape[1]].mul_(2)  # query and key
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name in ("running_mean", "running_var"):
                statistic = module.get_buffer(name)
                statistic.add_(torch.rand_like(statistic) * 0.5)
            if module.weight.mean() < 0.5:  # CLIP initialises the last norm of a residual branch with zero
                module.weight.add_(0.3)

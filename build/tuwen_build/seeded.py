"""A Chinese-CLIP checkpoint of any size with seeded random weights: real layout, no meaning.

It stands in where real weights cannot be had: in tests, and in the demo.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import ChineseCLIPConfig, ChineseCLIPModel

from tuwen_build.samples import vocabulary

__all__ = ["BASE_PATCH16", "TINY", "write_seeded_checkpoint"]

# The published dimensions of OFA-Sys/chinese-clip-vit-base-patch16 (cn_clip/clip/model_configs/ViT-B-16.json
# and RoBERTa-wwm-ext-base-chinese.json); what is not named is the default of transformers' classes.
BASE_PATCH16: dict[str, Any] = {
    "projection_dim": 512,
    "vision_config": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 16},
    "text_config": {"vocab_size": 21128, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
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

    Biases and norms are perturbed too, so that no layer is trivially right: at their initial zeros and ones a
    forgotten bias or a swapped norm would not show.

    Args:
        folder: created if need be.
        dimensions: as `ChineseCLIPConfig` takes them.
        seed: equal seeds give equal weights.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = ChineseCLIPModel(ChineseCLIPConfig(**dimensions))
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif parameter.ndim == 2 and "embedding" not in name:
                # Variance-preserving, with attention sharper than that: transformers' initial 0.02 would leave
                # the output to depend on little else than the [CLS] token.
                sharper = 2 if name.endswith(("query.weight", "key.weight", "q_proj.weight", "k_proj.weight")) else 1
                parameter.normal_(std=sharper * parameter.shape[1] ** -0.5)
        model.save_pretrained(folder)
    shutil.copy(vocabulary(), folder / "vocab.txt")
    return folder

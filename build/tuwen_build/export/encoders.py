"""The modules to export. Each wraps a tower: uint8 or int64 inputs from the wire, float32 unit vectors as output."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tuwen_build.checkpoints import Checkpoint
from tuwen_build.export.quantization import quantized
from tuwen_build.options import Precision
from tuwen_build.towers import use_packed_attention
from tuwen_build.towers._activation_fusion import fold_quick_gelu
from tuwen_build.towers._projections import join_projections

__all__ = ["TextEncoder", "VisionEncoder", "text_encoder", "vision_encoder"]

# the type of weights and activations; for int8, outside the linear layers
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}


class VisionEncoder(nn.Module):
    """The vision encoder: uint8 pixel values (n, 3, S, S) to float32 unit vectors (n, D).

    Rescaling and normalisation are exact in float32 (torchvision's ToTensor and Normalize: x / 255, then
    (x - mean) / std). The tower runs in its own precision. The norm is computed in float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, tower: nn.Module, mean: tuple[float, float, float], std: tuple[float, float, float], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.tower = tower.to(dtype)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.dtype = dtype

    def forward(self, pixel_values: Tensor) -> Tensor:
        scaled = (pixel_values.to(torch.float32) / 255.0 - self.mean) / self.std
        return _unit(self.tower(scaled.to(self.dtype)))


class TextEncoder(nn.Module):
    """The text encoder: int64 token ids and attention mask (n, L) to float32 unit vectors (n, D)."""

    def __init__(self, tower: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.tower = tower.to(dtype)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return _unit(self.tower(input_ids, attention_mask))


def vision_encoder(checkpoint: Checkpoint, precision: Precision) -> VisionEncoder:
    """Return the vision encoder of a checkpoint, in eval mode."""
    rules = checkpoint.preprocessing
    tower = copy.deepcopy(checkpoint.vision)  # conversions work in place, and the reference needs the original weights
    join_projections(tower)
    return VisionEncoder(_converted(tower, precision), rules.mean, rules.std, _DTYPES[precision]).eval()


def text_encoder(checkpoint: Checkpoint, precision: Precision) -> TextEncoder:
    """Return the text encoder of a checkpoint, in eval mode."""
    tower = copy.deepcopy(checkpoint.text)
    use_packed_attention(tower)
    return TextEncoder(_converted(tower, precision), _DTYPES[precision]).eval()


def _converted(tower: nn.Module, precision: Precision) -> nn.Module:
    fold_quick_gelu(tower)
    return quantized(tower) if precision == "int8" else tower


def _unit(embedding: Tensor) -> Tensor:
    """Return vectors divided by their L2 norm. No epsilon is added to the norm, as in code that uses cn_clip."""
    embedding = embedding.to(torch.float32)
    norm: Tensor = torch.linalg.vector_norm(embedding, dim=-1, keepdim=True)
    return embedding / norm

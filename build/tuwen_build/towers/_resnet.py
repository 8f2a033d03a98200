"""CLIP's ResNet (Radford et al. 2021, arXiv:2103.00020, section 2.4), for which transformers has no class.

It differs from the classic ResNet in three places: a stem of three convolutions with average pooling, average
pooling before every strided convolution (which then needs no stride), and attention pooling at the end. Batch norms
are folded into their convolutions in double precision. This saves an operation, and lower precisions round only once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ResNetTower"]

_BATCH_NORM_EPSILON = 1e-5  # torch's default, which the original keeps


class ResNetTower(nn.Module):
    """The image tower of CLIP's ResNet: normalised pixels (n, 3, S, S) to embeddings (n, D).

    Args:
        weights: the tensors by their original names, without ``visual.``: ``conv1.weight``, ``bn1.running_mean``,
            ``layer1.0.conv1.weight``, ..., ``attnpool.c_proj.bias``.
        blocks: the number of bottlenecks in each of the four layers (3, 4, 6, 3 for RN50).
        width: the channels after the stem (64 for RN50).
        heads: the attention heads of the attention pooling (32 for RN50).

    Raises:
        RuntimeError: a weight is missing, unexpected or of a wrong shape.
    """

    def __init__(self, weights: Mapping[str, Tensor], blocks: tuple[int, ...], width: int, heads: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1)
        channels = width
        for index, count in enumerate(blocks):
            inner = width << index
            layer = nn.Sequential()
            for block in range(count):
                stride = 2 if index > 0 and block == 0 else 1
                layer.append(_Bottleneck(channels, inner, stride))
                channels = 4 * inner
            self.add_module(f"layer{index + 1}", layer)
        self._layers = [f"layer{index + 1}" for index in range(len(blocks))]
        positions = weights["attnpool.positional_embedding"].shape[0]
        self.attnpool = _AttentionPooling(positions, channels, heads, weights["attnpool.c_proj.weight"].shape[0])
        self.load_state_dict(_folded(weights))

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden = functional.relu(self.conv1(pixel_values))
        hidden = functional.relu(self.conv2(hidden))
        hidden = functional.avg_pool2d(functional.relu(self.conv3(hidden)), 2)
        for name in self._layers:
            hidden = getattr(self, name)(hidden)
        return self.attnpool(hidden)  # type: ignore[no-any-return]


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv3 = nn.Conv2d(inner, 4 * inner, 1)
        self.stride = stride
        reshapes = stride > 1 or channels != 4 * inner
        self.downsample = nn.ModuleList([nn.Conv2d(channels, 4 * inner, 1)]) if reshapes else None

    def forward(self, hidden: Tensor) -> Tensor:
        branch = functional.relu(self.conv2(functional.relu(self.conv1(hidden))))
        if self.stride > 1:
            branch, hidden = functional.avg_pool2d(branch, self.stride), functional.avg_pool2d(hidden, self.stride)
        if self.downsample is not None:
            hidden = self.downsample[0](hidden)
        return functional.relu(self.conv3(branch) + hidden)


class _AttentionPooling(nn.Module):
    """Attention pooling with one query: the mean of all positions, which attends to itself and to all positions."""

    def __init__(self, positions: int, width: int, heads: int, embedding_dimension: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, embedding_dimension)
        self.heads = heads

    def forward(self, hidden: Tensor) -> Tensor:
        positions = hidden.flatten(2).transpose(1, 2)
        positions = torch.cat([positions.mean(dim=1, keepdim=True), positions], dim=1) + self.positional_embedding
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.q_proj(positions[:, :1]), self.k_proj(positions), self.v_proj(positions))
        )
        pooled = functional.scaled_dot_product_attention(query, key, value)
        return self.c_proj(pooled.transpose(1, 2).flatten(1))  # type: ignore[no-any-return]


def _folded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with every batch norm folded into the convolution before it."""
    norms = {name.removesuffix(".running_mean") for name in weights if name.endswith(".running_mean")}
    folded = {name: weight for name, weight in weights.items() if name.rpartition(".")[0] not in norms}
    for norm in norms:
        scale, shift, mean, variance = (
            weights[f"{norm}.{kind}"].double() for kind in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / (variance + _BATCH_NORM_EPSILON).sqrt()
        convolution = norm.replace("downsample.1", "downsample.0").replace("bn", "conv")
        folded[f"{convolution}.weight"] = (
            weights[f"{convolution}.weight"].double() * factor[:, None, None, None]
        ).float()
        folded[f"{convolution}.bias"] = (shift - mean * factor).float()
    return folded

"""int8 on the CPU: linear layers with int8 weights and activations.

Weights have one scale for each output channel. Activations have one scale for each row, that is for each token,
computed at run time. The arithmetic is that of torchao's ``Int8DynamicActivationInt8WeightConfig``, in plain operators,
because TorchScript cannot hold torchao's tensor subclasses. torch's own ``quantize_dynamic`` can be traced, but uses
one scale for the whole batch, so that an item's vector would depend on the other items of its batch.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["Int8FeedForward", "Int8Linear", "quantized"]

_Layer: TypeAlias = tuple[Tensor, Tensor, Tensor]  # a NamedTuple cannot be traced
"""A linear layer: int8 weights (in, out), their float32 scales by output (1, out), and the bias (out,)."""


class Int8Linear(nn.Module):
    """A linear layer, (..., in) to (..., out), with float32 inputs and outputs and int8 arithmetic."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = _scale_of_rows(weight)
        self.register_buffer("weight", weight.div(scale).round_().to(torch.int8).t().contiguous())
        self.register_buffer("scale", scale.t().contiguous())
        bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = _scripted_linear(inputs.flatten(0, -2), self.layer())
        return outputs.reshape(*inputs.shape[:-1], -1)

    def layer(self) -> _Layer:
        """Return the weights, scales and bias, as the scripted functions take them."""
        return self.weight, self.scale, self.bias


class Int8FeedForward(nn.Module):
    """A feed-forward block with SiLU, (..., width) to (..., width), which computes two int8 layers together."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.before, self.after = Int8Linear(block.fc1), Int8Linear(block.fc2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = _scripted_feed_forward(inputs.flatten(0, -2), self.before.layer(), self.after.layer())
        return outputs.reshape(*inputs.shape[:-1], -1)


def quantized(tower: nn.Module) -> nn.Module:
    """Replace a tower's linear layers by int8 layers in place. Convolutions, norms and embeddings stay float32."""
    for name, module in list(tower.named_children()):
        if isinstance(module, nn.Linear):
            setattr(tower, name, Int8Linear(module))
        elif isinstance(getattr(module, "activation_fn", None), nn.SiLU):
            setattr(tower, name, Int8FeedForward(module))
        else:
            quantized(module)
    return tower


def _linear(rows: Tensor, layer: _Layer) -> Tensor:
    """Apply an int8 layer to rows (n, in), and return rows (n, out).

    The rows are computed 256 at a time, so that intermediate values stay in the CPU's cache.
    """
    outputs = rows.new_empty([rows.shape[0], layer[0].shape[1]])
    scratch = rows.new_empty([min(256, rows.shape[0]), rows.shape[1]])
    for start in range(0, rows.shape[0], 256):
        some = rows[start : start + 256]
        _product(some, layer, outputs[start : start + 256], scratch[: some.shape[0]])
    return outputs


def _feed_forward(rows: Tensor, before: _Layer, after: _Layer) -> Tensor:
    """Apply both int8 layers of a block to rows (n, in), and return rows (n, out), computed 256 at a time."""
    outputs = rows.new_empty([rows.shape[0], after[0].shape[1]])
    scratch = rows.new_empty([min(256, rows.shape[0]), rows.shape[1]])
    inner = rows.new_empty([min(256, rows.shape[0]), before[0].shape[1]])
    for start in range(0, rows.shape[0], 256):
        some = rows[start : start + 256]
        hidden = inner[: some.shape[0]]
        _product(some, before, hidden, scratch[: some.shape[0]])
        torch.nn.functional.silu(hidden, inplace=True)
        _product(hidden, after, outputs[start : start + 256], hidden)
    return outputs


def _product(rows: Tensor, layer: _Layer, outputs: Tensor, scratch: Tensor) -> None:
    """Apply an int8 layer to rows (n, in), and write the result into outputs (n, out).

    The values of `scratch` (n, in) are overwritten. `scratch` may be the same tensor as `rows`.
    """
    weight, scale, bias = layer
    its_scale = _scale_of_rows(rows)
    integers = torch.mul(rows, its_scale.reciprocal(), out=scratch).round_().to(torch.int8)
    products = torch._int_mm(integers, weight)  # 127 * 127 * width: below 2**31 for any width under 133,000
    outputs.copy_(products).mul_(its_scale)  # a product of int32 and float32 converts, too, but more slowly
    torch.addcmul(bias, outputs, scale, out=outputs)


def _scale_of_rows(rows: Tensor) -> Tensor:
    """Return the divisor of each row, (n, 1), which scales the largest magnitude to 127."""
    largest = torch.maximum(rows.amax(dim=1, keepdim=True), rows.amin(dim=1, keepdim=True).neg())
    return largest.div(127.0).clamp(min=1.2e-38)  # the smallest normal number, for rows of zeros


# Scripted, because a trace would make the number of blocks a constant.
_scripted_linear = torch.jit.script_if_tracing(_linear)  # type: ignore[no-untyped-call]
_scripted_feed_forward = torch.jit.script_if_tracing(_feed_forward)  # type: ignore[no-untyped-call]

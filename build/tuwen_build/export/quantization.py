"""int8 on the CPU: linear layers with int8 weights and activations.

Weights have one scale for each output channel, activations one for each row, that is for each token, found as
it comes by: the arithmetic of torchao's ``Int8DynamicActivationInt8WeightConfig``, as plain operators, because
torchao's tensor subclasses and TorchScript exclude each other. torch's own ``quantize_dynamic`` does trace, but takes
one scale for the whole batch: an item's vector would depend on what else happens to be in its batch.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["Int8FeedForward", "Int8Linear", "quantized"]

_Layer: TypeAlias = tuple[Tensor, Tensor, Tensor]  # a named one cannot be traced
"""int8 weights (in, out), and by output (1, out) their float32 scale, (out,) the bias."""


class Int8Linear(nn.Module):
    """A linear layer (..., in) to (..., out), float32 outside and int8 inside."""

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
        """What scripted functions know of it."""
        return self.weight, self.scale, self.bias


class Int8FeedForward(nn.Module):
    """A feed-forward block with SiLU, (..., width) to (..., width): two int8 layers at once."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.before, self.after = Int8Linear(block.fc1), Int8Linear(block.fc2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = _scripted_feed_forward(inputs.flatten(0, -2), self.before.layer(), self.after.layer())
        return outputs.reshape(*inputs.shape[:-1], -1)


def quantized(tower: nn.Module) -> nn.Module:
    """Replace the linear layers of a tower, in place; convolutions, norms and embeddings stay float32."""
    for name, module in list(tower.named_children()):
        if isinstance(module, nn.Linear):
            setattr(tower, name, Int8Linear(module))
        elif isinstance(getattr(module, "activation_fn", None), nn.SiLU):
            setattr(tower, name, Int8FeedForward(module))
        else:
            quantized(module)
    return tower


def _linear(rows: Tensor, layer: _Layer) -> Tensor:
    """Rows (n, in) to (n, out), by 256 of them, so that what is between the steps stays in the processor's cache."""
    outputs = rows.new_empty([rows.shape[0], layer[0].shape[1]])
    scratch = rows.new_empty([min(256, rows.shape[0]), rows.shape[1]])
    for start in range(0, rows.shape[0], 256):
        some = rows[start : start + 256]
        _product(some, layer, outputs[start : start + 256], scratch[: some.shape[0]])
    return outputs


def _feed_forward(rows: Tensor, before: _Layer, after: _Layer) -> Tensor:
    """Rows (n, in) to (n, out) through both layers, by 256 of them all the way."""
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
    """Rows (n, in) into outputs (n, out); scratch (n, in) is overwritten, and may be the rows."""
    weight, scale, bias = layer
    its_scale = _scale_of_rows(rows)
    integers = torch.mul(rows, its_scale.reciprocal(), out=scratch).round_().to(torch.int8)
    products = torch._int_mm(integers, weight)  # 127 * 127 * width: below 2**31 for any width under 133,000
    outputs.copy_(products).mul_(its_scale)  # a product of int32 and float32 converts, too, but more slowly
    torch.addcmul(bias, outputs, scale, out=outputs)


def _scale_of_rows(rows: Tensor) -> Tensor:
    """What each row is divided by, (n, 1): its largest magnitude becomes 127."""
    largest = torch.maximum(rows.amax(dim=1, keepdim=True), rows.amin(dim=1, keepdim=True).neg())
    return largest.div(127.0).clamp(min=1.2e-38)  # the smallest normal number, for rows of zeros


# A trace would take the number of slabs for a constant.
_scripted_linear = torch.jit.script_if_tracing(_linear)  # type: ignore[no-untyped-call]
_scripted_feed_forward = torch.jit.script_if_tracing(_feed_forward)  # type: ignore[no-untyped-call]

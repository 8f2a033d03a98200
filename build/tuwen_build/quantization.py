"""int8 on the CPU: linear layers with int8 weights and activations.

Weights have one scale for each output channel, activations one for each row, that is for each token, found as
it comes by: the arithmetic of torchao's ``Int8DynamicActivationInt8WeightConfig``, as plain operators, because
torchao's tensor subclasses and TorchScript exclude each other. torch's own ``quantize_dynamic`` does trace, but takes
one scale for the whole batch: an item's vector would depend on what else happens to be in its batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Int8Linear", "quantized"]


class Int8Linear(nn.Module):
    """A linear layer (..., in) to (..., out), float32 outside and int8 inside."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = _scale_of_rows(weight)
        self.register_buffer("weight", _rows_to_int8(weight, scale).t().contiguous())
        self.register_buffer("scale", scale.t().contiguous())
        bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = _scripted_linear(inputs.flatten(0, -2), self.weight, self.scale, self.bias)
        return outputs.reshape(*inputs.shape[:-1], -1)


def quantized(tower: nn.Module) -> nn.Module:
    """Replace the linear layers of a tower, in place; convolutions, norms and embeddings stay float32."""
    for name, module in list(tower.named_children()):
        if isinstance(module, nn.Linear):
            setattr(tower, name, Int8Linear(module))
        else:
            quantized(module)
    return tower


def _linear(rows: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Rows (n, in) to (n, out), by 256 of them, so that what is between the steps stays in the processor's cache."""
    outputs = rows.new_empty([rows.shape[0], weight.shape[1]])
    for start in range(0, rows.shape[0], 256):
        some = rows[start : start + 256]
        its_scale = _scale_of_rows(some)
        # 127 * 127 * width stays below 2**31 for any width under 133,000
        products = torch._int_mm(_rows_to_int8(some, its_scale), weight)
        out = outputs[start : start + 256]
        out.copy_(products)  # a product of int32 and float32 converts, too, but more slowly
        out.mul_(its_scale)
        torch.addcmul(bias, out, scale, out=out)
    return outputs


def _scale_of_rows(rows: Tensor) -> Tensor:
    """What each row is divided by, (n, 1): its largest magnitude becomes 127."""
    largest = torch.maximum(rows.amax(dim=1, keepdim=True), rows.amin(dim=1, keepdim=True).neg())
    return largest.div(127.0).clamp(min=1.2e-38)  # the smallest normal number, for rows of zeros


def _rows_to_int8(rows: Tensor, scale: Tensor) -> Tensor:
    return torch.div(rows, scale).round_().to(torch.int8)


# A trace would take the number of slabs for a constant.
_scripted_linear = torch.jit.script_if_tracing(_linear)  # type: ignore[no-untyped-call]

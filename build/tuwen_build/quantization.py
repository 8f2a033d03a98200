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

_LARGEST = 127


class Int8Linear(nn.Module):
    """A linear layer (..., in) to (..., out), float32 outside and int8 inside."""

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = _rows_to_int8(linear.weight.detach())
        self.register_buffer("weight", weight.t().contiguous())
        self.register_buffer("scale", scale.t().contiguous())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        rows, scale = _rows_to_int8(inputs.flatten(0, -2))
        # 127 * 127 * width stays below 2**31 for any width under 133,000
        outputs = torch._int_mm(rows, self.weight) * scale * self.scale
        if self.bias is not None:
            outputs = outputs + self.bias
        return outputs.reshape(*inputs.shape[:-1], -1)


def quantized(tower: nn.Module) -> nn.Module:
    """Replace the linear layers of a tower, in place; convolutions, norms and embeddings stay float32."""
    for name, module in list(tower.named_children()):
        if isinstance(module, nn.Linear):
            setattr(tower, name, Int8Linear(module))
        else:
            quantized(module)
    return tower


def _rows_to_int8(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix as int8, and what each of its rows was divided by."""
    scale = (matrix.abs().amax(dim=1, keepdim=True) / _LARGEST).clamp(min=torch.finfo(matrix.dtype).tiny)
    return (matrix / scale).round().to(torch.int8), scale

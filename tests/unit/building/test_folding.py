"""QuickGELU in one pass computes what it computed in three."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPMLP

from tuwen_build.folding import fold_quick_gelu


def block(activation: str) -> nn.Module:
    torch.manual_seed(0)
    return CLIPMLP(
        CLIPVisionConfig(hidden_size=16, intermediate_size=64, num_attention_heads=2, hidden_act=activation)
    ).eval()


@torch.inference_mode()
def test_the_outputs_stay_the_same() -> None:
    original = block("quick_gelu")
    folded = copy.deepcopy(original)
    fold_quick_gelu(nn.Sequential(folded))
    inputs = 3 * torch.randn(5, 7, 16)
    assert (folded(inputs) - original(inputs)).abs().max() < 1e-6
    assert not torch.equal(folded.fc1.weight, original.fc1.weight)
    assert "sigmoid" not in str(torch.fx.symbolic_trace(folded).graph)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_other_activations_stay_as_they_are(activation: str) -> None:
    original = block(activation)
    folded = copy.deepcopy(original)
    fold_quick_gelu(folded)
    assert torch.equal(folded.fc1.weight, original.fc1.weight)
    assert type(folded.activation_fn) is type(original.activation_fn)

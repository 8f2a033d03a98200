"""Three projections of one input, joined, compute what they computed apart."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from tuwen_build.attention import JoinedAttention, join_projections


@pytest.fixture
def tower() -> CLIPVisionModel:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8
    )
    model = CLIPVisionModel(config).eval()
    for name, parameter in model.named_parameters():
        if "proj.bias" in name:  # which transformers starts with zeros
            torch.nn.init.normal_(parameter)
    return model


@torch.inference_mode()
def test_the_outputs_stay_the_same(tower: CLIPVisionModel) -> None:
    joined = copy.deepcopy(tower)
    join_projections(joined)
    assert [type(layer.self_attn) for layer in joined.encoder.layers] == [JoinedAttention] * 2
    pixels = torch.randn(3, 3, 32, 32)
    difference = joined(pixel_values=pixels).last_hidden_state - tower(pixel_values=pixels).last_hidden_state
    assert difference.abs().max() < 1e-5


def test_other_modules_stay_as_they_are(tower: CLIPVisionModel) -> None:
    joined = copy.deepcopy(tower)
    join_projections(joined)
    kept = {name for name in tower.state_dict() if "_proj." not in name or "out_proj" in name}
    assert kept < set(joined.state_dict())

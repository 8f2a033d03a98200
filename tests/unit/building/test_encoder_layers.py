"""Layers that the build rewrites: their outputs stay the same, and a layer bound to one device is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPMLP

from tuwen_build.errors import ExportError
from tuwen_build.export.quantization import Int8FeedForward, Int8Linear
from tuwen_build.export.torchscript import export
from tuwen_build.towers._activation_fusion import fold_quick_gelu
from tuwen_build.towers._projections import JoinedAttention, join_projections


def exported(module: nn.Module, example: Tensor, folder: Path) -> Any:
    """Export a module, and return the module that is loaded from the exported file."""
    export(module.eval(), (example,), folder / "module.pt")
    return torch.jit.load(folder / "module.pt")  # type: ignore[no-untyped-call]


class TestJoinedProjections:
    @pytest.fixture
    def tower(self) -> CLIPVisionModel:
        torch.manual_seed(0)
        config = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        )
        model = CLIPVisionModel(config).eval()
        for name, parameter in model.named_parameters():
            if "proj.bias" in name:  # transformers initialises these biases with zeros
                nn.init.normal_(parameter)
        return model

    @torch.inference_mode()
    def test_outputs_stay_the_same(self, tower: CLIPVisionModel) -> None:
        joined = copy.deepcopy(tower)
        join_projections(joined)
        assert [type(layer.self_attn) for layer in joined.encoder.layers] == [JoinedAttention] * 2
        pixels = torch.randn(3, 3, 32, 32)
        difference = joined(pixel_values=pixels).last_hidden_state - tower(pixel_values=pixels).last_hidden_state
        assert difference.abs().max() < 1e-5

    def test_other_modules_stay_as_they_are(self, tower: CLIPVisionModel) -> None:
        joined = copy.deepcopy(tower)
        join_projections(joined)
        kept = {name for name in tower.state_dict() if "_proj." not in name or "out_proj" in name}
        assert kept < set(joined.state_dict())


class TestFoldedQuickGelu:
    def block(self, activation: str) -> nn.Module:
        torch.manual_seed(0)
        config = CLIPVisionConfig(hidden_size=16, intermediate_size=64, num_attention_heads=2, hidden_act=activation)
        return CLIPMLP(config).eval()

    @torch.inference_mode()
    def test_outputs_stay_the_same(self) -> None:
        original = self.block("quick_gelu")
        folded = copy.deepcopy(original)
        fold_quick_gelu(nn.Sequential(folded))
        inputs = 3 * torch.randn(5, 7, 16)
        assert (folded(inputs) - original(inputs)).abs().max() < 1e-6
        assert not torch.equal(folded.fc1.weight, original.fc1.weight)
        assert "sigmoid" not in str(torch.fx.symbolic_trace(folded).graph)

    @pytest.mark.parametrize("activation", ["gelu", "relu"])
    def test_other_activations_stay_as_they_are(self, activation: str) -> None:
        original = self.block(activation)
        folded = copy.deepcopy(original)
        fold_quick_gelu(folded)
        assert torch.equal(folded.fc1.weight, original.fc1.weight)
        assert type(folded.activation_fn) is type(original.activation_fn)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
class TestInt8:
    def test_rows_of_zeros_give_the_bias(self) -> None:
        layer = Int8Linear(nn.Linear(8, 4))
        outputs = layer(torch.zeros(2, 3, 8))
        assert outputs.shape == (2, 3, 4)
        assert torch.equal(outputs, layer.bias.expand(2, 3, 4))  # type: ignore[union-attr]

    def test_layers_accept_more_rows_than_one_int8_product(self, tmp_path: Path) -> None:
        plain = nn.Linear(32, 8).eval()
        layer = exported(Int8Linear(plain), torch.randn(2, 3, 32), tmp_path)
        inputs = torch.randn(5, 120, 32) * torch.rand(5, 120, 1) * 100
        with torch.inference_mode():
            off = (layer(inputs) - plain(inputs)).abs().amax(-1)
        assert (off < 0.02 * inputs.abs().amax(-1)).all()  # each row is quantized with its own scale
        assert off.max() > 0

    def test_feed_forward_blocks_equal_their_two_layers(self, tmp_path: Path) -> None:
        block = CLIPMLP(CLIPVisionConfig(hidden_size=24, intermediate_size=96, hidden_act="quick_gelu")).eval()
        fold_quick_gelu(nn.Sequential(block))
        joined = exported(Int8FeedForward(block), torch.randn(2, 3, 24), tmp_path)
        inputs = torch.randn(5, 120, 24)
        with torch.inference_mode():
            apart = Int8Linear(block.fc2)(nn.functional.silu(Int8Linear(block.fc1)(inputs)))
            assert torch.equal(joined(inputs), apart)
            assert 0 < (apart - block(inputs)).abs().max() < 0.02 * apart.abs().max()


class TestExport:
    class BoundToItsDevice(nn.Module):
        def forward(self, pixel_values: Tensor) -> Tensor:
            return pixel_values + torch.arange(3, device=pixel_values.device)

    def test_rejects_a_device_constant(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match=r"only run on the device it was traced on.*Device = prim::Constant"):
            export(self.BoundToItsDevice().eval(), (torch.zeros(2, 3),), tmp_path / "model.pt")
        assert not (tmp_path / "model.pt").exists()

    def test_rejects_training_mode(self, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="training mode"):
            export(nn.Dropout(), (torch.zeros(2, 3),), tmp_path / "model.pt")

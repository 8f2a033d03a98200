"""CLIP's vision transformer, which runs the vision model of transformers."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["VisionTransformerTower"]


class VisionTransformerTower(nn.Module):
    """CLIP's vision transformer with class token, final norm and projection: pixels (n, 3, S, S) to vectors (n, D)."""

    def __init__(self, vision_model: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.vision_model = vision_model
        self.projection = projection

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.projection(self.vision_model(pixel_values=pixel_values).pooler_output)  # type: ignore[no-any-return]

"""The networks to export, built so that a trace runs on any device.

A vision tower takes normalised pixels (n, 3, S, S); a text tower takes int64 ids and attention mask (n, L).
Both give embeddings (n, D) that are not yet unit vectors.
"""

from __future__ import annotations

from tuwen_build.towers._resnet import ResNetTower
from tuwen_build.towers._text import TextTower, use_packed_attention
from tuwen_build.towers._vision_transformer import VisionTransformerTower

__all__ = ["ResNetTower", "TextTower", "VisionTransformerTower", "use_packed_attention"]

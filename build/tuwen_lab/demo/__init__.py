"""``make demo``: build and serve the demo checkpoint, and search with it.

The checkpoint and the gallery lie in ``build/demo`` of the source. ``make demo-checkpoint`` makes both again.
"""

from pathlib import Path

__all__ = ["CHECKPOINT", "EVERYDAY_WORDS", "GALLERY"]

_ASSETS = Path(__file__).parents[2] / "demo"
CHECKPOINT = _ASSETS / "checkpoint"
GALLERY = _ASSETS / "gallery"
EVERYDAY_WORDS = ("猫", "狗", "老虎", "汽车", "苹果", "红心", "月亮", "太阳", "自行车", "蛋糕")

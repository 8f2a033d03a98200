"""Make cn_clip and open_clip importable beside a CPU build of torch.

Both need torchvision, which is not installed in the project's environment. Import this module before cn_clip or
open_clip, with the environment of ``tests/environments.sh originals`` on ``PYTHONPATH``.
"""

from __future__ import annotations

import warnings

import torch

__all__: list[str] = []

# PyPI's torchvision is built for CUDA. Beside a CPU build of torch, its import fails because two operators are missing.
# No test uses the two operators, so declaring them is enough.
if torch.version.cuda is None:
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
warnings.simplefilter("ignore")

"""Makes the originals importable: cn-clip and open_clip need torchvision, which must not be beside the project.

Import this module before cn_clip or open_clip, with the environment `originals` (``tests/environments.sh originals``)
on ``PYTHONPATH``.
"""

from __future__ import annotations

import warnings

import torch

__all__: list[str] = []

# PyPI's torchvision is built for CUDA and, beside a CPU build of torch, fails to find two operators that
# nothing here uses; declaring them is enough to import it.
if torch.version.cuda is None:
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
warnings.simplefilter("ignore")

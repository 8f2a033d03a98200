"""The rows of the table of docs/reference/checkpoints.md, as small as their layouts and variants allow."""

from __future__ import annotations

from tests.support.checkpoints import TextSizes, VisionSizes
from tests.support.rows import Row

__all__ = ["SMALL_ROWS"]

_SMALL = TextSizes(64, 2, 4)
_BASE, _LARGE = "RoBERTa-wwm-ext-base-chinese", "RoBERTa-wwm-ext-large-chinese"
_CN_TEXT = {
    "text_hidden_size": 64,
    "text_intermediate_size": 256,
    "text_num_attention_heads": 4,
    "text_num_hidden_layers": 2,
}
# cn_clip computes the number of heads from the width: one head for 64 channels, or for 80 channels in ViT-H-14.
_CN_VISION = {"vision_width": 128, "vision_layers": 2, "embed_dim": 64}
_CN_336 = {**_CN_VISION, "vision_layers": 1}
_CN_HUGE = {**_CN_VISION, "vision_width": 160, "vision_layers": 3, "embed_dim": 96}
_CN_LARGE_TEXT = {**_CN_TEXT, "text_num_hidden_layers": 3}
# In a ResNet, the channels after the stem determine the other sizes: here 8 heads, and 512 channels before the pooling.
_CN_RESNET = {"vision_width": 16, "vision_layers": [1, 2, 1, 1], "embed_dim": 64}

SMALL_ROWS = {
    "chinese-clip-vit-base-patch16": Row("chinese-clip", VisionSizes(96, 2, 4, 16), _SMALL, 64),
    "chinese-clip-vit-large-patch14": Row("chinese-clip", VisionSizes(96, 3, 4, 14), _SMALL, 96),
    "chinese-clip-vit-large-patch14-336px": Row("chinese-clip", VisionSizes(64, 1, 4, 14, 336), _SMALL, 64, 336),
    "chinese-clip-vit-huge-patch14": Row("chinese-clip", VisionSizes(160, 2, 2, 14), TextSizes(96, 4, 3), 128),
    "clip_cn_rn50.pt": Row("native", "RN50", "RBT3-chinese", 64, 224, {**_CN_RESNET, **_CN_TEXT}, (8, 4)),
    "clip_cn_vit-b-16.pt": Row("native", "ViT-B-16", _BASE, 64, 224, {**_CN_VISION, **_CN_TEXT}, (2, 4)),
    "clip_cn_vit-l-14-336.pt": Row("native", "ViT-L-14-336", _BASE, 64, 336, {**_CN_336, **_CN_TEXT}, (2, 4)),
    "clip_cn_vit-h-14.pt": Row("native", "ViT-H-14", _LARGE, 96, 224, {**_CN_HUGE, **_CN_LARGE_TEXT}, (2, 4)),
    "damo/multi-modal_clip-vit-base-patch16_zh": Row(
        "modelscope", "ViT-B-16", _BASE, 64, 224, {**_CN_VISION, **_CN_TEXT}
    ),
    "damo/multi-modal_clip-vit-huge-patch14_zh": Row(
        "modelscope", "ViT-H-14", _LARGE, 96, 224, {**_CN_HUGE, **_CN_LARGE_TEXT}
    ),
    "openai/clip-vit-base-patch32": Row("openai-clip", VisionSizes(96, 3, 4, 32), TextSizes(64, 3, 4), 64),
    "openai/clip-vit-large-patch14-336": Row("openai-clip", VisionSizes(64, 1, 4, 14, 336), _SMALL, 96, 336),
    "Taiyi-CLIP-RoBERTa-102M-ViT-L-Chinese": Row("taiyi-clip", VisionSizes(96, 2, 4, 14), _SMALL, 64),
    "Taiyi-CLIP-Roberta-102M-Chinese": Row("taiyi-clip", VisionSizes(96, 2, 4, 32), _SMALL, 96, projected=True),
    "Taiyi-CLIP-Roberta-large-326M-Chinese": Row(
        "taiyi-clip", VisionSizes(96, 2, 4, 14), TextSizes(96, 4, 4), 64, projected=True
    ),
}

"""The names of Chinese-CLIP's own code, and those that transformers gives the same weights."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["native_weights", "rounded_to_half", "transformers_weights"]

_RENAMED = (
    (r"^bert\.", "text_model."),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),  # transformers' own spelling
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.ln_", r"vision_model.encoder.layers.\1.layer_norm"),
    (r"^visual\.transformer\.resblocks\.(\d+)\.mlp\.c_fc\.", r"vision_model.encoder.layers.\1.mlp.fc1."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.mlp\.c_proj\.", r"vision_model.encoder.layers.\1.mlp.fc2."),
    (r"^visual\.transformer\.resblocks\.(\d+)\.attn\.", r"vision_model.encoder.layers.\1.self_attn."),
)
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
# What cn_clip's convert_weights leaves in float32: layer and batch norms and embeddings of the image tower, and
# the logit scale. The whole of BERT is rounded.
_KEPT_IN_FLOAT32 = re.compile(
    r"(^logit_scale|^visual\..*(\bln_\w+|\bbn\d|downsample\.1|positional_embedding|class_embedding)\b)"
)


def native_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of a model without FlashAttention, without what inference does not use.

    ModelScope's files hold BERT's pooler, which no embedding passes through, and batch norms count their batches.
    With FlashAttention (cn_clip/clip/model.py, convert_state_dict) query, key and value are one tensor in BERT too.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith("bert.pooler.") or name.endswith(("num_batches_tracked", "position_ids")):
            continue
        if ".attention.self.Wqkv." in name:
            for part, chunk in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                result[name.replace("Wqkv", part)] = chunk
        else:
            name = name.replace(".attention.self.out_proj.", ".attention.output.dense.")  # noqa: PLW2901
            result[name.replace(".attn.Wqkv.", ".attn.in_proj_")] = tensor
    return result


def transformers_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Native weights of a model with a vision transformer, as `ChineseCLIPModel` names them.

    What has no place there keeps its name, for a strict load to refuse.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name in _TRANSPOSED:
            result[_TRANSPOSED[name]] = tensor.T.contiguous()
        elif ".attn.in_proj_" in name:
            stem, _, kind = name.rpartition("in_proj_")
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                result[_renamed(f"{stem}{part}_proj.{kind}")] = chunk.contiguous()
        else:
            result[_renamed(name)] = tensor
    return result


def rounded_to_half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Native weights as a model of ModelScope has them in memory, also on a CPU: most were float16 once."""
    return {
        name: tensor if _KEPT_IN_FLOAT32.search(name) else tensor.to(torch.float16).to(torch.float32)
        for name, tensor in weights.items()
    }


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name, count = re.subn(pattern, replacement, name)
        if count:
            return name
    return name

"""The names of weights in Chinese-CLIP's own code, and the names of the same weights in transformers."""

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
# cn_clip's convert_weights leaves these in float32: layer norms, batch norms and embeddings of the image tower, and
# the logit scale. It rounds all of BERT.
_KEPT_IN_FLOAT32 = re.compile(
    r"(^logit_scale|^visual\..*(\bln_\w+|\bbn\d|downsample\.1|positional_embedding|class_embedding)\b)"
)


def native_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that inference uses, under the names of a model without FlashAttention.

    Two kinds of weights are left out: BERT's pooler, which ModelScope's files hold, and the batch counters of batch
    norms. With FlashAttention (cn_clip/clip/model.py, convert_state_dict) query, key and value are one tensor in BERT
    too; the tensor is split.
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
    """Rename the native weights of a model with a vision transformer to the names in `ChineseCLIPModel`.

    A weight that `ChineseCLIPModel` does not have keeps its name, so that a strict load rejects it.
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
    """Round native weights to float16 and convert them back to float32.

    ModelScope's pipeline rounds these weights on loading, on a CPU too. The other weights are returned unchanged.
    """
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

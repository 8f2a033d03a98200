"""Towers around the modules of transformers.

Text towers hand transformers a ready 4-D additive mask: from a 2-D one it builds its own, with the device of the
trace baked in (``masking_utils``).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["BertTower", "CausalTextTower", "PooledBertTower", "VisionTransformerTower"]


def _additive_mask(attended: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where `attended` is 1, and the lowest number of `dtype` where it is 0."""
    return (1 - attended.to(dtype)) * torch.finfo(dtype).min


class VisionTransformerTower(nn.Module):
    """CLIP's vision transformer: class token, final norm, projection."""

    def __init__(self, vision_model: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.vision_model = vision_model
        self.projection = projection

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.projection(self.vision_model(pixel_values=pixel_values).pooler_output)  # type: ignore[no-any-return]


class BertTower(nn.Module):
    """Chinese-CLIP's text tower: the last hidden state of [CLS], without BERT's pooler, projected."""

    def __init__(self, text_model: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.text_model = text_model
        self.projection = projection

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = _run_bert(self.text_model, input_ids, attention_mask).last_hidden_state
        return self.projection(hidden[:, 0])  # type: ignore[no-any-return]


class PooledBertTower(nn.Module):
    """Taiyi's text tower: BERT's tanh pooler, then the classification head of the checkpoints that have one."""

    def __init__(self, text_model: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.text_model = text_model
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.head(_run_bert(self.text_model, input_ids, attention_mask).pooler_output)  # type: ignore[no-any-return]


class CausalTextTower(nn.Module):
    """OpenAI CLIP's text tower: causal attention, pooled at the end-of-text token, projected.

    That token is the last one attended to, since nothing but padding follows it; transformers' own search for
    its id would bake the device of the trace into the graph.
    """

    causal: Tensor

    def __init__(self, text_model: Any, projection: nn.Module, context_length: int) -> None:
        super().__init__()
        self.embeddings = text_model.embeddings
        self.encoder = text_model.encoder
        self.final_layer_norm = text_model.final_layer_norm
        self.projection = projection
        self.register_buffer("causal", torch.ones(context_length, context_length, dtype=torch.int64).tril())

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        length = input_ids.shape[1]
        hidden = self.embeddings(input_ids=input_ids)
        attended = attention_mask[:, None, None, :] * self.causal[:length, :length]
        mask = _additive_mask(attended, hidden.dtype)
        hidden = self.final_layer_norm(self.encoder(inputs_embeds=hidden, attention_mask=mask).last_hidden_state)
        last = (attention_mask.sum(dim=1) - 1).clamp(min=0)
        pooled = hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[2]))
        return self.projection(pooled[:, 0])  # type: ignore[no-any-return]


def _run_bert(bert: Any, input_ids: Tensor, attention_mask: Tensor) -> Any:
    dtype = bert.embeddings.word_embeddings.weight.dtype
    return bert(input_ids=input_ids, attention_mask=_additive_mask(attention_mask[:, None, None, :], dtype))

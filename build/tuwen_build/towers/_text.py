"""Text towers that run the modules of transformers, but do not compute on padding.

Nearly all work of a text tower is in its linear layers, which process every token separately. So the tokens of a batch
are packed into one row, without the padding between them. Only attention sees the texts side by side, padded to
the longest text. The cost of a batch then depends on its tokens, not on the padded length.

On a GPU, reading the weights takes longer than the arithmetic of a few rows, so padding costs a small batch nothing.
Packing, however, must wait until the host knows the number of tokens. Small batches are therefore not packed on a GPU.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

__all__ = ["TextTower", "use_packed_attention"]

_PACKED = "tuwen_packed"
# Fewer rows than this take a GPU the time of reading the weights: T4, A100, L4 and H100 do 150 to 400 half-precision
# multiplications for each number that they read (NVIDIA's data sheets: peak FLOP/s over peak bytes/s).
UNPACKED_ROWS = 256


class Packing(NamedTuple):
    """The positions of the tokens of n texts, padded to length L, in one row of T tokens.

    Attributes:
        places: int64 (T,), the index of each token of the row among the n * L padded tokens. The tensor is empty if
            the row holds the padded texts unchanged, so that T is n * L.
        slots: int64 (n, L), for each position of the padded texts, the index of its token in the row. A position of
            padding has the index of the last token before the padding.
    """

    places: Tensor
    slots: Tensor


class TextTower(nn.Module):
    """A text tower: int64 ids and attention mask (n, L) to embeddings (n, D).

    An attention mask holds ones, then zeros. If it holds zeros alone, the first token is still attended to.
    Callers can send any ids and masks, and an index out of range would end a process on a GPU. So ids outside the
    vocabulary are clamped to it, and tokens beyond the last position are cut off.
    Call `use_packed_attention` before running the tower.

    Args:
        text_model: a text model of transformers, with `embeddings` and `encoder`.
        head: the module that turns the hidden state of one token into the embedding of the text.
        causal_length: the context length, for CLIP's causal attention. The last token (the end token, which only
            padding follows) then represents the text. None: attention goes both ways, and the first token represents
            the text.
    """

    causal: Tensor | None

    def __init__(self, text_model: Any, head: nn.Module, *, causal_length: int | None = None) -> None:
        super().__init__()
        self.embeddings = text_model.embeddings
        self.encoder = text_model.encoder
        self.head = head
        tables = dict(text_model.embeddings.named_children())  # the names in BERT and in CLIP
        self._tokens = (tables.get("word_embeddings") or tables["token_embedding"]).num_embeddings
        self._positions = (tables.get("position_embeddings") or tables["position_embedding"]).num_embeddings
        # An integer matrix and a slice, because transformers' own masks would fix the device of the trace in the graph.
        lower = None if causal_length is None else torch.ones(causal_length, causal_length, dtype=torch.int64).tril()
        self.register_buffer("causal", lower)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        ids, attended = _cut(input_ids, attention_mask, self._tokens, self._positions)
        packing = Packing(*_pack(attended))
        hidden = self.embeddings(input_ids=ids)
        tokens = _join(hidden, packing.places)
        mask = _additive_mask(attended, self.causal, hidden, torch.finfo(hidden.dtype).min)
        encoded = self.encoder(tokens, attention_mask=mask, packing=packing).last_hidden_state
        standing_for_texts = packing.slots.select(1, 0 if self.causal is None else -1)
        return self.head(encoded[0].index_select(0, standing_for_texts))  # type: ignore[no-any-return]


def use_packed_attention(tower: nn.Module) -> None:
    """Change the transformers modules of a text tower in place so that attention stays within each text of a row."""
    for module in tower.modules():
        config: Any = getattr(module, "config", None)
        if config is not None:
            config._attn_implementation = _PACKED


def _packed_attention(
    module: nn.Module,  # noqa: ARG001 - transformers passes it
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    *,
    packing: Packing,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute attention over packed tokens: (1, heads, T, width) to (1, T, heads, width)."""
    places, slots = packing
    query, key, value = (_side_by_side(packed, places, slots) for packed in (query, key, value))
    attended = nn.functional.scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
    return _join(attended.transpose(1, 2), places), None


AttentionInterface.register(_PACKED, _packed_attention)

# The functions below are scripted. A trace would make constants of values that depend on the mask and the device.
# A step of a script also costs less than the same step of a trace, which turns every size into a tensor and back.


def _cut_texts(input_ids: Tensor, attention_mask: Tensor, tokens: int, positions: int) -> tuple[Tensor, Tensor]:
    length = min(input_ids.size(1), attention_mask.size(1), positions)
    attended = (attention_mask[:, :length] > 0).to(torch.int64)
    attended.select(1, 0).fill_(1)
    if not attended.is_cuda:  # a GPU would have to wait until the host knows the longest text
        length = int(attended.sum(1).max())
    return input_ids[:, :length].clamp(0, tokens - 1), attended[:, :length]


def _pack_tokens(attended: Tensor, unpacked: int = UNPACKED_ROWS) -> tuple[Tensor, Tensor]:
    if attended.is_cuda and attended.numel() <= unpacked:
        starts = torch.arange(attended.size(0), device=attended.device) * attended.size(1) - 1
        return attended.new_empty(0), attended.cumsum(1) + starts.unsqueeze(1)
    flat = attended.flatten()
    places = flat.nonzero().squeeze(1)  # on a GPU, the one step that waits
    spare = -places.size(0) % 8  # oneDNN compiles a kernel for each number of rows and keeps about a thousand
    places = torch.cat([places, places[:1].expand(spare)])
    return places, (flat.cumsum(0) - 1).view_as(attended)


def _additive(attended: Tensor, causal: Tensor | None, like: Tensor, lowest: float) -> Tensor:
    """Return the additive mask (n, 1, 1 or L, L): 0 where a token attends, else the lowest number."""
    mask = attended.unsqueeze(1).unsqueeze(2)
    if causal is not None:
        length = attended.size(1)
        mask = mask * causal[:length, :length]
    return (1 - mask.to(like.dtype)) * lowest


def _join_tokens(padded: Tensor, places: Tensor) -> Tensor:
    """Pack tokens (n, L, ...) into one row (1, T, ...)."""
    row = padded.flatten(0, 1)
    return (row if places.numel() == 0 else row.index_select(0, places)).unsqueeze(0)


def _separate_tokens(row: Tensor, places: Tensor, slots: Tensor) -> Tensor:
    """Unpack the heads of a row of tokens, (1, heads, T, width), to (n, heads, L, width)."""
    tokens = row.squeeze(0).transpose(0, 1)
    if places.numel() > 0:
        tokens = tokens.index_select(0, slots.flatten())
    return tokens.reshape(slots.size(0), slots.size(1), tokens.size(1), tokens.size(2)).transpose(1, 2)


_cut = torch.jit.script_if_tracing(_cut_texts)  # type: ignore[no-untyped-call]
_pack = torch.jit.script_if_tracing(_pack_tokens)  # type: ignore[no-untyped-call]
_additive_mask = torch.jit.script_if_tracing(_additive)  # type: ignore[no-untyped-call]
_join = torch.jit.script_if_tracing(_join_tokens)  # type: ignore[no-untyped-call]
_side_by_side = torch.jit.script_if_tracing(_separate_tokens)  # type: ignore[no-untyped-call]

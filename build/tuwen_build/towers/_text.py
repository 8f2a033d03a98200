"""Text towers around the modules of transformers, computing on tokens alone and never on padding.

Nearly all work of a text tower is in its linear layers, which treat every token by itself. So the tokens of a batch
are packed into one row, without the padding between them, and only attention sees the texts side by side, cut to the
longest. Eight queries of 6 to 22 tokens then cost what their tokens cost, whatever length they were sent with.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

__all__ = ["TextTower", "use_packed_attention"]

_PACKED = "tuwen_packed"


class Packing(NamedTuple):
    """Where the tokens of n texts, padded to length L, stand in one row of T.

    Attributes:
        places: int64 (T,), of each token in the row: its place among the n * L padded ones.
        slots: int64 (n, L), of each padded place: its token in the row; for padding, the last token before it.
    """

    places: Tensor
    slots: Tensor


class TextTower(nn.Module):
    """int64 ids and attention mask (n, L) to embeddings (n, D).

    An attention mask is ones, then zeros; without any one, the first token is attended to all the same.
    Whoever can reach a server can send any ids and masks: what no vocabulary holds becomes an id that it does, and what
    is beyond the last position is cut off. An index out of range would end a GPU's process.
    To be run after `use_packed_attention`.

    Args:
        text_model: one of transformers, with `embeddings` and `encoder`.
        head: from the hidden state of the token that stands for the text to its embedding.
        causal_length: for CLIP's causal attention, the context length; a text's last token then stands for it (its
            end token, since only padding follows it), and else its first.
    """

    causal: Tensor | None

    def __init__(self, text_model: Any, head: nn.Module, *, causal_length: int | None = None) -> None:
        super().__init__()
        self.embeddings = text_model.embeddings
        self.encoder = text_model.encoder
        self.head = head
        tables = dict(text_model.embeddings.named_children())  # as BERT calls them, or CLIP
        self._tokens = (tables.get("word_embeddings") or tables["token_embedding"]).num_embeddings
        self._positions = (tables.get("position_embeddings") or tables["position_embedding"]).num_embeddings
        # An integer matrix and a slice: transformers' own masks would bake the device of the trace into the graph.
        lower = None if causal_length is None else torch.ones(causal_length, causal_length, dtype=torch.int64).tril()
        self.register_buffer("causal", lower)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        ids, attended = _cut_to_longest(input_ids, attention_mask, self._tokens, self._positions)
        packing = Packing(*_pack(attended))
        hidden = self.embeddings(input_ids=ids)
        tokens = hidden.flatten(0, 1).index_select(0, packing.places)
        mask = self._additive_mask(attended, hidden.dtype)
        encoded = self.encoder(tokens[None], attention_mask=mask, packing=packing).last_hidden_state[0]
        standing_for_texts = packing.slots[:, 0 if self.causal is None else -1]
        return self.head(encoded.index_select(0, standing_for_texts))  # type: ignore[no-any-return]

    def _additive_mask(self, attended: Tensor, dtype: torch.dtype) -> Tensor:
        """0 where a token attends, and the lowest number where it does not: (n, 1, 1 or L, L)."""
        mask = attended[:, None, None, :]
        if self.causal is not None:
            length = attended.shape[1]
            mask = mask * self.causal[:length, :length]
        return (1 - mask.to(dtype)) * torch.finfo(dtype).min


def use_packed_attention(tower: nn.Module) -> None:
    """Have the transformers modules of a text tower attend within each text of a packed row, in place."""
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
    """Attention over packed tokens, (1, heads, T, width), to (1, T, heads, width)."""
    count, length = packing.slots.shape

    def side_by_side(packed: Tensor) -> Tensor:
        padded = packed[0].transpose(0, 1).index_select(0, packing.slots.flatten())
        return padded.reshape(count, length, *padded.shape[1:]).transpose(1, 2)

    attended = nn.functional.scaled_dot_product_attention(
        side_by_side(query), side_by_side(key), side_by_side(value), attention_mask, scale=scaling
    )
    return attended.transpose(1, 2).flatten(0, 1).index_select(0, packing.places)[None], None


AttentionInterface.register(_PACKED, _packed_attention)


# Scripted, since a trace would take the sizes that depend on the mask for constants.
def _cut_to_longest_text(
    input_ids: Tensor, attention_mask: Tensor, tokens: int, positions: int
) -> tuple[Tensor, Tensor]:
    length = min(input_ids.size(1), attention_mask.size(1), positions)
    attended = (attention_mask[:, :length] > 0).to(torch.int64)
    attended[:, 0] = 1
    longest = int(attended.sum(1).max())
    return input_ids[:, :longest].clamp(0, tokens - 1), attended[:, :longest]


def _pack_tokens(attended: Tensor) -> tuple[Tensor, Tensor]:
    places = attended.flatten().nonzero().squeeze(1)
    spare = -places.size(0) % 8  # oneDNN compiles a kernel for each number of rows and keeps about a thousand
    places = torch.cat([places, places[:1].expand(spare)])
    return places, (attended.flatten().cumsum(0) - 1).view_as(attended)


_cut_to_longest = torch.jit.script_if_tracing(_cut_to_longest_text)  # type: ignore[no-untyped-call]
_pack = torch.jit.script_if_tracing(_pack_tokens)  # type: ignore[no-untyped-call]

"""The conversion of texts to padded token ids, independent of Triton. Each family has a module with its rules."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rules", "TextTokenizer", "TokenizedTexts", "load_tokenizer"]


class Rules(Protocol):
    """The tokenization rules of one family.

    Attributes:
        start, end: the ids of the tokens before and after each text.
    """

    start: int
    end: int

    def token_ids(self, texts: list[str], most: int) -> list[list[int]]:
        """Return the ids of each text, without the start and end tokens. Special tokens typed by users count as text.

        `most` is the number of ids that the caller needs. Some tokenizers return more.
        """


@dataclass(frozen=True)
class TokenizedTexts:
    """A batch of n texts, padded to the context length L.

    Attributes:
        input_ids: the ids, int64 (n, L): the start token, the tokens, the end token, then zeros.
        attention_mask: the mask, int64 (n, L): 1 for a token, 0 for padding.
        truncated: for each text, whether tokens were cut off, bool (n,).
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    truncated: NDArray[np.bool_]


class TextTokenizer:
    """A tokenizer that truncates and pads.

    All texts are padded to one length, because Triton only merges requests of the same shape into a batch. The padding
    costs little, because the encoder skips it.

    Args:
        rules: the tokenization rules of the family.
        context_length: the maximum number of tokens per text, including start and end (52 or 77 as trained). Longer
            texts keep their beginning and their end token.
        unmasked: whether the encoder attends to the padding, as in Taiyi's training.
    """

    def __init__(self, rules: Rules, *, context_length: int, unmasked: bool = False) -> None:
        self.context_length = context_length
        self._rules = rules
        self._unmasked = unmasked

    def encode(self, texts: list[str]) -> TokenizedTexts:
        """Tokenize a batch."""
        room = self.context_length - 2
        tokens = self._rules.token_ids(texts, room + 1)
        kept = [[self._rules.start, *ids[:room], self._rules.end] for ids in tokens]
        input_ids = np.zeros((len(texts), self.context_length), dtype=np.int64)
        attention_mask = np.full_like(input_ids, self._unmasked)
        for row, ids in enumerate(kept):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        truncated = np.array([len(ids) > room for ids in tokens], dtype=np.bool_)
        return TokenizedTexts(input_ids, attention_mask, truncated)


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Return the tokenizer that ``tokenizer.json`` and the vocabulary beside it describe."""
    settings = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return TextTokenizer(
        _load_rules(folder, settings["kind"], settings["rules"]),
        context_length=settings["context_length"],
        unmasked=settings["unmasked"],
    )


def _load_rules(folder: Path, kind: str, settings: dict[str, bool]) -> Rules:
    # Each family's module is imported when it is needed, so that a server needs only the packages of its family.
    if kind == "chinese_clip_wordpiece":
        from .wordpiece import ChineseClipWordPiece

        return ChineseClipWordPiece(_vocabulary(folder), **settings)
    if kind == "bert_wordpiece":
        from .wordpiece import BertWordPiece

        return BertWordPiece(_vocabulary(folder), **settings)
    if kind == "clip_bpe":
        from .byte_pairs import ClipBytePairs

        merges = (folder / "merges.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        return ClipBytePairs(json.loads((folder / "vocab.json").read_text(encoding="utf-8")), merges)
    kinds = "chinese_clip_wordpiece, bert_wordpiece or clip_bpe"
    raise ValueError(f"expected the kind {kinds} in {folder / 'tokenizer.json'}, got {kind!r}")


def _vocabulary(folder: Path) -> dict[str, int]:
    """Read ``vocab.txt``, which has one token in each line. The line number, from 0, is the token's id."""
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    if lines[-1] == "":
        lines.pop()
    return {line.strip(): index for index, line in enumerate(lines)}

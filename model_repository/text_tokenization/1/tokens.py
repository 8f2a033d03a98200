"""Texts to token ids: the tokenizer of Chinese-CLIP, exactly, with nothing of Triton in it.

Chinese-CLIP tokenizes with Google's original BERT code (``cn_clip/clip/bert_tokenizer.py``). The Rust
BERT normalizer of Hugging Face differs from it on private-use characters, a stretch of CJK extension
E, the Greek final sigma, words of 101 to 200 characters, and special tokens typed by users. So the
character rules are applied here with Python's own Unicode tables, as the original does, and the
`tokenizers` library does what is costly: splitting and WordPiece, for a whole batch in parallel.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import WordPiece

__all__ = ["BertTokenizer", "LengthBuckets", "TokenizedTexts", "load_tokenizer"]

# The blocks that the original treats as Chinese characters, each a token of its own.
_CJK_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
_ASCII_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_STRAIGHT_QUOTES = str.maketrans({"“": '"', "”": '"'})
_UNKNOWN = "[UNK]"
_MAX_CHARACTERS_PER_WORD = 200


@dataclass(frozen=True)
class TokenizedTexts:
    """A batch of n texts, padded to one length L.

    Attributes:
        input_ids: int64 (n, L), ``[CLS] tokens [SEP]`` and zeros after it.
        attention_mask: int64 (n, L), 1 where there is a token.
        truncated: bool (n,), True where tokens were cut off.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    truncated: NDArray[np.bool_]


class BertTokenizer:
    """The WordPiece tokenizer of Chinese-CLIP.

    Args:
        vocabulary: token to id; holds ``[CLS]``, ``[SEP]`` and ``[UNK]``. The padding id is 0, because
            the reference derives its attention mask from ``ids != 0``.
        context_length: the most tokens of a text, ``[CLS]`` and ``[SEP]`` included (52 as trained).
        length_buckets: ascending lengths that texts are padded to; the last is the context length.
        straighten_quotes: map “ and ” to ``"`` first, as Chinese-CLIP's training and evaluation
            scripts do and its public ``clip.tokenize`` does not.
    """

    def __init__(
        self,
        vocabulary: dict[str, int],
        *,
        context_length: int,
        length_buckets: tuple[int, ...],
        straighten_quotes: bool = False,
    ) -> None:
        if list(length_buckets) != sorted(set(length_buckets)) or length_buckets[-1] != context_length:
            raise ValueError(f"length buckets {length_buckets} must ascend to the context length {context_length}")
        self.context_length = context_length
        self.buckets = LengthBuckets(length_buckets)
        self._straighten_quotes = straighten_quotes
        self._cls, self._sep = vocabulary["[CLS]"], vocabulary["[SEP]"]
        self._cleaned, self._marks, punctuation = _unicode_tables()
        self._wordpiece = Tokenizer(
            WordPiece(vocabulary, unk_token=_UNKNOWN, max_input_chars_per_word=_MAX_CHARACTERS_PER_WORD)
        )
        own_token = _character_class([*_CJK_RANGES, *punctuation])
        self._wordpiece.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(own_token), "isolated")]
        )

    def normalize(self, text: str) -> str:
        """Clean, lower-case and strip accents, as the original does before it splits words."""
        if self._straighten_quotes:
            text = text.translate(_STRAIGHT_QUOTES)
        lowered = text.translate(self._cleaned).lower()
        return unicodedata.normalize("NFD", lowered).translate(self._marks)

    def encode(self, texts: list[str], *, now: float | None = None) -> TokenizedTexts:
        """Tokenize a batch, padded to the bucket that holds it and, given a time, what came shortly before."""
        room = self.context_length - 2
        encodings = self._wordpiece.encode_batch_fast([self.normalize(text) for text in texts])
        tokens = [encoding.ids for encoding in encodings]
        kept = [[self._cls, *ids[:room], self._sep] for ids in tokens]
        length = self.buckets.choose(max(map(len, kept), default=0), now)
        input_ids = np.zeros((len(texts), length), dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, ids in enumerate(kept):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        truncated = np.array([len(ids) > room for ids in tokens], dtype=np.bool_)
        return TokenizedTexts(input_ids, attention_mask, truncated)


class LengthBuckets:
    """Chooses the length that a batch is padded to.

    The encoder's cost is linear in the length, so a lone text goes to the smallest bucket that holds it. But
    Triton only joins requests of one shape, and ends a batch at the first that differs: texts of mixed lengths
    from many callers would run nearly one by one. So what arrives together, within `window` seconds, is padded
    alike, to the bucket of the longest.
    """

    def __init__(self, lengths: tuple[int, ...], window: float = 0.02) -> None:
        self.lengths = lengths
        self._window = window
        self._recent: deque[tuple[float, int]] = deque()  # arrival time and bucket

    def choose(self, longest: int, now: float | None = None) -> int:
        """The bucket for a batch whose longest text has `longest` tokens and that arrived at `now` (seconds)."""
        own = next(length for length in self.lengths if length >= longest)
        if now is None:
            return own
        self._recent.append((now, own))
        while self._recent[0][0] < now - self._window:
            self._recent.popleft()
        return max(bucket for _, bucket in self._recent)


def load_tokenizer(folder: Path) -> BertTokenizer:
    """The tokenizer that the build step wrote: ``tokenizer.json`` (settings) and ``vocab.txt``, one token a line."""
    settings = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    kind = settings.pop("kind")
    if kind != "bert_wordpiece":
        raise ValueError(f"{folder / 'tokenizer.json'}: unknown tokenizer kind {kind!r}")
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    if lines[-1] == "":
        lines.pop()
    settings["length_buckets"] = tuple(settings["length_buckets"])
    return BertTokenizer({line.strip(): index for index, line in enumerate(lines)}, **settings)


def _unicode_tables() -> tuple[dict[int, str], dict[int, None], list[tuple[int, int]]]:
    """What to clean (to a space or to nothing), the accents to strip, and the punctuation, of this Python's Unicode."""
    cleaned: dict[int, str] = {0xFFFD: ""}
    marks: dict[int, None] = {}
    punctuation = [(ord(character), ord(character)) for character in _ASCII_PUNCTUATION]
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cc", "Cf"):
            cleaned[code] = " " if character in "\t\n\r" else ""
        elif category in ("Zs", "Zl", "Zp"):  # the last two are where str.split() splits
            cleaned[code] = " "
        elif category == "Mn":
            marks[code] = None
        elif category.startswith("P"):
            punctuation.append((code, code))
    return cleaned, marks, punctuation


def _character_class(ranges: list[tuple[int, int]]) -> str:
    """A regular expression that matches one character of the ranges."""
    return "[" + "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in ranges) + "]"

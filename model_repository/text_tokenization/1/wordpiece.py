"""WordPiece in the two variants with which Chinese CLIP models were trained.

Chinese-CLIP tokenizes with Google's original BERT code (``cn_clip/clip/bert_tokenizer.py``). The Rust
BERT normalizer of Hugging Face, which Taiyi's model cards use, differs from Google's code on private-use characters, a
stretch of CJK extension E, the Greek final sigma, and words of 101 to 200 characters. So for Chinese-CLIP the
character rules are applied here with Python's own Unicode tables, as in the original. The `tokenizers` library
does the expensive work, splitting and WordPiece, for a whole batch in parallel.
"""

from __future__ import annotations

import sys
import unicodedata

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece

from .bounds import first_words, marks_in_order, words_apart_from

__all__ = ["BertWordPiece", "ChineseClipWordPiece"]

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


class ChineseClipWordPiece:
    """The tokenizer of Chinese-CLIP.

    Args:
        vocabulary: a mapping from tokens to ids, with ``[CLS]``, ``[SEP]`` and ``[UNK]``. The padding id is 0, because
            the reference derives its attention mask from ``ids != 0``.
        straighten_quotes: whether “ and ” are first replaced by ``"``, as in Chinese-CLIP's training and evaluation
            scripts. Chinese-CLIP's public ``clip.tokenize`` does not replace them.
    """

    def __init__(self, vocabulary: dict[str, int], *, straighten_quotes: bool = False) -> None:
        self.start, self.end = vocabulary["[CLS]"], vocabulary["[SEP]"]
        self._straighten_quotes = straighten_quotes
        self._cleaned, self._marks, punctuation = _unicode_tables()
        self._wordpiece = Tokenizer(
            WordPiece(vocabulary, unk_token=_UNKNOWN, max_input_chars_per_word=_MAX_CHARACTERS_PER_WORD)
        )
        own_token = _character_class([*_CJK_RANGES, *punctuation])
        self._words = words_apart_from([*_CJK_RANGES, *punctuation])
        self._wordpiece.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(own_token), "isolated")]
        )

    def normalize(self, text: str) -> str:
        """Clean, lower-case and strip accents, as the original does before it splits words."""
        if self._straighten_quotes:
            text = text.translate(_STRAIGHT_QUOTES)
        lowered = text.translate(self._cleaned).lower()
        return unicodedata.normalize("NFD", marks_in_order(lowered)).translate(self._marks)

    def token_ids(self, texts: list[str], most: int) -> list[list[int]]:
        """Return at least the first `most` ids of each text, without ``[CLS]`` and ``[SEP]``."""
        words = [first_words(self.normalize(text), most, self._words) for text in texts]
        return [encoding.ids for encoding in self._wordpiece.encode_batch_fast(words)]


class BertWordPiece:
    """The tokenizer of transformers' `BertTokenizer`. Special tokens that a user types count as text.

    Args:
        vocabulary: a mapping from tokens to ids, with ``[CLS]``, ``[SEP]`` and ``[UNK]``.
        lowercase: whether to lower-case and strip accents.
    """

    def __init__(self, vocabulary: dict[str, int], *, lowercase: bool) -> None:
        self.start, self.end = vocabulary["[CLS]"], vocabulary["[SEP]"]
        self._wordpiece = Tokenizer(WordPiece(vocabulary, unk_token=_UNKNOWN))
        self._normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        self._wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._words = words_apart_from(_old_punctuation())

    def token_ids(self, texts: list[str], most: int) -> list[list[int]]:
        """Return at least the first `most` ids of each text, without ``[CLS]`` and ``[SEP]``."""
        words = [first_words(self._normalizer.normalize_str(text), most, self._words) for text in texts]
        return [encoding.ids for encoding in self._wordpiece.encode_batch_fast(words)]


def _unicode_tables() -> tuple[dict[int, str], dict[int, None], list[tuple[int, int]]]:
    """Return the replacements of spaces and control characters, the accents and the punctuation, as Python has them."""
    cleaned: dict[int, str] = {0xFFFD: ""}
    marks: dict[int, None] = {}
    punctuation = [(ord(character), ord(character)) for character in _ASCII_PUNCTUATION]
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cc", "Cf"):
            cleaned[code] = " " if character in "\t\n\r" else ""
        elif category in ("Zs", "Zl", "Zp"):  # str.split() splits at the last two
            cleaned[code] = " "
        elif category == "Mn":
            marks[code] = None
        elif category.startswith("P"):
            punctuation.append((code, code))
    return cleaned, marks, punctuation


def _old_punctuation() -> list[tuple[int, int]]:
    """Return the punctuation of Unicode 3.2 that is still punctuation. All newer libraries split words at it."""
    old = unicodedata.ucd_3_2_0
    codes = (
        code
        for code in range(sys.maxunicode + 1)
        if old.category(chr(code)).startswith("P") and unicodedata.category(chr(code)).startswith("P")
    )
    return [(code, code) for code in (*map(ord, _ASCII_PUNCTUATION), *codes)]


def _character_class(ranges: list[tuple[int, int]]) -> str:
    """Return a regular expression that matches one character of the ranges."""
    return "[" + "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in ranges) + "]"

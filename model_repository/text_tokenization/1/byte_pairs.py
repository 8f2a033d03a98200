"""Byte-pair encoding as in OpenAI's CLIP (``clip/simple_tokenizer.py``) and in open_clip.

As in the original, ftfy repairs texts first (mojibake, full-width forms, ligatures) and HTML entities are decoded.
transformers' `CLIPTokenizer` skips both steps. If a user types ``<|startoftext|>`` or ``<|endoftext|>``, the original
reads a special token, and the model pools the text at the wrong place. Here, such words are plain text. The Unicode
tables of the `tokenizers` library decide which characters are letters. So characters newer than Unicode 14 (2021) may
be split in another way than in the original.
"""

from __future__ import annotations

import html

import ftfy
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from .bounds import first_characters, first_lines, marks_in_order

__all__ = ["ClipBytePairs"]

_MOST_CHARACTERS = 16_384  # over 200 for each token; the tokens of a longer text would be cut off
_MOST_LINES = 1_024  # over 10 for each token; ftfy takes 20 microseconds for each line, however short
_START, _END = "<|startoftext|>", "<|endoftext|>"
# The original drops U+0345, a combining iota, because under IGNORECASE no part of its pattern matches this character.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"


class ClipBytePairs:
    """The tokenizer of CLIP.

    Args:
        vocabulary: a mapping from tokens to ids, from ``vocab.json``.
        merges: the lines of ``merges.txt``, in order of priority. The first line may name a version.
    """

    def __init__(self, vocabulary: dict[str, int], merges: list[str]) -> None:
        self.start, self.end = vocabulary[_START], vocabulary[_END]
        # Every token is a byte, a byte that ends a word, a merge, or one of the two special tokens. Some releases
        # of merges.txt go on after the merges that the vocabulary has.
        count = len(vocabulary) - 2 * 256 - 2
        lines = merges[1:] if "#version" in merges[0] else merges
        pairs = [(left, right) for left, right in (line.split(" ") for line in lines[:count])]
        self._byte_pairs = Tokenizer(BPE(vocabulary, pairs, end_of_word_suffix="</w>", unk_token=_END))
        self._byte_pairs.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    def token_ids(self, texts: list[str], most: int) -> list[list[int]]:  # noqa: ARG002 - bounded by characters
        """Return the ids of each text, without the start and end tokens."""
        encodings = self._byte_pairs.encode_batch_fast([_cleaned(text) for text in texts])
        return [encoding.ids for encoding in encodings]


def _cleaned(text: str) -> str:
    text = marks_in_order(first_lines(first_characters(text, _MOST_CHARACTERS), _MOST_LINES))
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()

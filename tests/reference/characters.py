"""Texts that hold one Unicode character each, for comparing tokenizers, and a file format for their token ids."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

__all__ = ["assigned_characters", "every_character", "in_a_text", "write_ids"]


def every_character() -> list[str]:
    """Return every code point that UTF-8 can encode: all code points except the surrogates."""
    return [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]


def assigned_characters() -> list[str]:
    """Return the characters that this Python's version of Unicode assigns, without code points for private use."""
    return [character for character in every_character() if unicodedata.category(character) not in ("Cn", "Co")]


def in_a_text(character: str) -> str:
    """Return a text with the character between letters, so that the character's class decides how the text is split."""
    return f"A{character}bΣ"


def write_ids(path: Path, characters: Iterable[str], token_ids: Callable[[str], list[int]]) -> None:
    """Save the token ids of the text of each character.

    The file holds `codes` (int32, n), `lengths` (uint8, n), and `ids` (int32, the ids of all texts, one text after the
    other).
    """
    codes, lengths, ids = [], [], []
    for character in characters:
        row = token_ids(in_a_text(character))
        codes.append(ord(character))
        lengths.append(len(row))
        ids += row
    np.savez_compressed(
        path, codes=np.array(codes, np.int32), lengths=np.array(lengths, np.uint8), ids=np.array(ids, np.int32)
    )

"""Limits on the work for one text. They do not change the tokens that a model receives."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable
from itertools import islice

__all__ = ["first_characters", "first_lines", "first_words", "marks_in_order", "words_apart_from"]

_SHORT_TEXT = 500  # characters; sorting a shorter text takes no noticeable time


def marks_in_order(text: str) -> str:
    """Return a text whose long runs of combining characters are decomposed and sorted, as normalization does.

    Python's `unicodedata.normalize` uses insertion sort, which takes seconds for a run of 100,000 characters, but no
    time for a sorted run. The normal forms of the text stay the same.
    """
    return text if len(text) <= _SHORT_TEXT else _LONG_RUN.sub(_in_order, text)


def first_words(text: str, number: int, words: re.Pattern[str]) -> str:
    """Return the first words of a text. Every word has at least one token, so later words would be cut off anyway.

    WordPiece looks up every part of a word, which takes milliseconds for a word of 199 letters. Each token takes more
    than a kilobyte of memory: 256 KiB of punctuation would take 360 MiB.

    Args:
        text: the text.
        number: the maximum number of words to return.
        words: the pattern of a word, which `words_apart_from` returns.
    """
    if len(text) <= _SHORT_TEXT:
        return text
    last = next(islice(words.finditer(text), number - 1, None), None)
    return text[: last.end()] if last else text


def words_apart_from(ranges: Iterable[tuple[int, int]]) -> re.Pattern[str]:
    """Return the pattern of a word: one character of these ranges, or a run of other characters without white space."""
    alone = "".join(rf"\U{first:08X}-\U{last:08X}" for first, last in ranges)
    return re.compile(rf"[{alone}]|[^\s{alone}]+")


def first_characters(text: str, number: int) -> str:
    """Return the beginning of a text, up to the given number of characters. White space does not count."""
    if len(text) <= number:
        return text
    found = re.match(rf"(?:\s*\S){{0,{number}}}", text)
    return found.group() if found else text


def first_lines(text: str, number: int) -> str:
    """Return the first lines of a text. Lines with only spaces, tabs and carriage returns are left out."""
    lines = (line for line in text.split("\n") if line.strip(" \t\r"))
    return "\n".join(islice(lines, number))


def _in_order(run: re.Match[str]) -> str:
    decomposed = "".join(unicodedata.normalize("NFD", character) for character in run.group())
    return "".join(sorted(decomposed, key=unicodedata.combining))


_COMBINING = "".join(filter(unicodedata.combining, map(chr, range(sys.maxunicode + 1))))
_LONG_RUN = re.compile(f"[{_COMBINING}]{{10,}}")

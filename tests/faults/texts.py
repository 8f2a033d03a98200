"""Hostile texts, drawn at random: any code points, huge or invisible texts, and a tokenizer's special tokens."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

__all__ = ["HOSTILE_TEXTS", "HostileText", "good_texts"]

HostileText = Callable[[random.Random], str]

_WORDS = [
    "一只",
    "两条",
    "红色的",
    "会飞的",
    "戴眼镜的",
    "猫",
    "狗",
    "马",
    "鱼",
    "汽车",
    "火箭",
    "海边",
    "雪山",
    "杯子",
    "咖啡",
    "cat",
    "dog",
    "rocket",
]
_SPECIAL = (
    "[CLS]",
    "[SEP]",
    "[PAD]",
    "[UNK]",
    "[MASK]",
    "<|startoftext|>",
    "<|endoftext|>",
    "</s>",
    "<s>",
    "##",
    "</w>",
)


def good_texts(count: int, *, seed: int = 0) -> list[str]:
    """Return texts like the queries of people. No two texts are equal; equal seeds give equal texts."""
    choose = random.Random(seed)
    return [f"{''.join(choose.choices(_WORDS, k=choose.randint(1, 6)))}{number}" for number in range(count)]


def _any_code_points(choose: random.Random) -> str:
    """Return random code points of all planes, assigned or not, without surrogates."""
    points = (choose.choice((0x7F, 0x7FF, 0xFFFF, 0x10FFFF)) for _ in range(choose.choice((1, 5, 60, 300))))
    found = (choose.randrange(point + 1) for point in points)
    return "".join(chr(point) for point in found if not 0xD800 <= point <= 0xDFFF)


def _controls(choose: random.Random) -> str:
    """Return control characters, bidirectional overrides and zero-width characters between letters."""
    marks = [
        *map(chr, range(32)),
        *map(chr, range(0x7F, 0xA0)),
        *"\u200b\u200c\u200d\u200e\u200f\u2028\u2029\ufeff\ufffe",
    ]
    marks += "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    return "".join(
        choose.choice((choose.choice(marks), choose.choice("猫a "))) for _ in range(choose.choice((1, 9, 90)))
    )


def _combining(choose: random.Random) -> str:
    """Return a letter with many combining marks."""
    tower = (chr(choose.randrange(0x300, 0x370)) for _ in range(choose.choice((1, 50, 1000))))
    return choose.choice("aé猫각") + "".join(tower)


def _special(choose: random.Random) -> str:
    return "".join(choose.choice((choose.choice(_SPECIAL), "猫", " ")) for _ in range(choose.choice((1, 3, 40))))


def _emoji(choose: random.Random) -> str:
    """Return parts of emoji (people, skin tones, flags, joiners) in random order, mostly invalid sequences."""
    parts = ("👨", "👩", "👧", "🏽", "\u200d", "\ufe0f", "🇨", "🇳", "❤", "⚕", "#", "\u20e3", "\U000e0067", "\U000e007f")
    return "".join(choose.choice(parts) for _ in range(choose.choice((1, 7, 60))))


def _repeated(choose: random.Random) -> str:
    """Return a short string, repeated up to 5,000 times."""
    piece = choose.choice(("a", "猫", "-", "'", '"', "é", "…", "1", "\n", "aA", "😀", ".", "ﷺ"))
    return piece * choose.choice((1, 51, 52, 53, 500, 5_000))


def _megabyte(choose: random.Random) -> str:
    """Return a text of about one megabyte, which is longer than the server allows."""
    piece = choose.choice(("a", "猫", " ", "[PAD]", "é", "\x00", "a猫 "))
    return piece * ((1 << 20) // len(piece.encode()))


def _code(choose: random.Random) -> str:
    """Return a text that other programs would interpret, such as SQL, a script or a path."""
    return choose.choice(
        (
            "'; DROP TABLE images; --",
            "<script>alert(1)</script>",
            "${jndi:ldap://127.0.0.1/a}",
            "../../../../etc/passwd",
            "%s%n%x",
            "{{7*7}}",
            "\\u0000",
            "true",
            "NaN",
            "-1e999",
        )
    ) * choose.choice((1, 20))


def _blank(choose: random.Random) -> str:
    return choose.choice(("", " ", "\t\n", "\u3000", "\xa0" * 100, "\u2003\u2004", "\x00"))


def _half(choose: random.Random) -> str:
    """Return a text with half a surrogate pair, which cannot be encoded in UTF-8."""
    return f"猫{chr(choose.randrange(0xD800, 0xE000))}狗"


HOSTILE_TEXTS: Mapping[str, tuple[int, HostileText]] = {
    "any code points": (25, _any_code_points),
    "control and bidirectional characters": (15, _controls),
    "towers of combining marks": (10, _combining),
    "special tokens": (12, _special),
    "emoji sequences": (10, _emoji),
    "repeated strings": (9, _repeated),
    "a megabyte": (1, _megabyte),
    "code and paths": (8, _code),
    "blanks": (5, _blank),
    "half a surrogate pair": (5, _half),
}
"""By family of texts: the family's share in per cent, and the function that makes a text."""

"""The tokenizer of a built repository against an original, on every character of Unicode."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tuwen_build.staged import staged_module

__all__ = ["compare_characters"]


def compare_characters(
    repository: str, original: Callable[[str], list[int]], *, characters: Iterable[str] | None = None
) -> None:
    """Print how many texts were compared and the characters that differ; each text has one character amid letters."""
    folder = Path(repository) / "text_tokenization" / "1"
    with staged_module(folder, "tokens") as module:
        tokenizer = module.load_tokenizer(folder)
    everything = (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    texts = [f"A{character}bΣ" for character in characters or everything]
    different = []
    for start in range(0, len(texts), 20_000):
        chunk = texts[start : start + 20_000]
        encoded = tokenizer.encode(chunk)
        for text, ids, mask in zip(chunk, encoded.input_ids, encoded.attention_mask, strict=True):
            if ids[: mask.sum()].tolist() != original(text):
                different.append(text[1])
    print(json.dumps({"compared": len(texts), "different": different}))

"""The items of a request: texts, and images as encoded bytes, ``data:`` URLs or web addresses, but never as paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Item", "estimate_tokens", "image_item", "item_of_string"]

_DATA_IMAGE = re.compile(r"data:image/[\w.+-]+[;,]", re.ASCII | re.IGNORECASE)
_WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_WIDE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_WORD = re.compile(r"[^\W\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+")
_SIGN = re.compile(r"[^\w\s\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_LETTERS_PER_TOKEN = 6
_SPECIAL_TOKENS = 2


@dataclass(frozen=True)
class Item:
    """A text or an image of a request.

    Attributes:
        kind: ``text`` or ``image``.
        value: a text; or an image as encoded bytes, as a ``data:`` URL or as a web address. The SDK treats any other
            string as a path, so only `image_item` makes images.
    """

    kind: Literal["text", "image"]
    value: str | bytes

    @property
    def is_fetched(self) -> bool:
        """Whether the item is an image at a web address."""
        return self.kind == "image" and isinstance(self.value, str) and _is_web_address(self.value)


def image_item(value: str | bytes) -> Item:
    """Return the item for an image.

    Args:
        value: the image, as encoded bytes, a ``data:`` URL, an http or https address, or base64.
    """
    if isinstance(value, bytes):
        return Item("image", value)
    if value[:5].lower() == "data:" or _is_web_address(value):
        return Item("image", value)
    return Item("image", f"data:;base64,{value}")


def item_of_string(value: str) -> Item:
    """Return the item for a string: a ``data:image/...`` URL is an image, and any other string is a text."""
    return Item("image", value) if _DATA_IMAGE.match(value[:64]) else Item("text", value)


def estimate_tokens(item: Item, context_length: int) -> int:
    """Return the estimated number of tokens of an item; 0 for an image.

    Only the server has the tokenizer. The estimate is one token for each Chinese character and punctuation mark, and
    one for every six letters of a word, which is close to the vocabularies of Chinese-CLIP and CLIP.
    """
    if item.kind == "image" or not isinstance(item.value, str):
        return 0
    text = item.value[: 16 * context_length]
    words = sum(-(-len(word) // _LETTERS_PER_TOKEN) for word in _WORD.findall(text))
    return min(context_length, words + len(_WIDE.findall(text)) + len(_SIGN.findall(text)) + _SPECIAL_TOKENS)


def _is_web_address(value: str) -> bool:
    return _WEB_ADDRESS.match(value[:8]) is not None

"""Values that were used last, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen._responses import Parsed

__all__ = ["Cache", "TextCache"]

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_LONGEST_TEXT = 512  # characters; longer texts seldom come again, and would fill the memory


class Cache(Generic[Key, Value]):
    """Keeps the values that were used last; safe to share between threads.

    Args:
        size: the most values that are kept; 0: nothing is kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Return the kept values by key; a key without a kept value is left out."""
        found = {}
        with self._lock:
            for key in keys:
                if key in self._values:
                    self._values.move_to_end(key)
                    found[key] = self._values[key]
        return found

    def remember(self, values: Mapping[Key, Value]) -> None:
        """Keep values, and forget those that were used longest ago when there are too many."""
        with self._lock:
            for key, value in values.items():
                self._values[key] = value
                self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()


class TextCache:
    """The embeddings of the texts that a client asked for last.

    Args:
        size: the most texts that are kept; 0: no text is kept.
    """

    def __init__(self, size: int) -> None:
        self._cache: Cache[str, tuple[NDArray[np.float32], bool]] = Cache(size)

    def known(self, texts: Iterable[object]) -> dict[str, tuple[NDArray[np.float32], bool]]:
        """Return the embedding, float32 (D,), of each known text, and whether the text was truncated."""
        return self._cache.known(text for text in texts if isinstance(text, str))

    def forget(self) -> None:
        """Forget every text."""
        self._cache.forget()

    def remember(self, texts: Sequence[Any], found: Iterable[Parsed]) -> None:
        """Keep copies of the embeddings of texts that were not refused; they cannot be written to.

        Args:
            texts: all texts of a call.
            found: what became of them.
        """
        for parsed in found:
            for position, embedding in zip(parsed.positions, parsed.embeddings, strict=True):
                if position not in parsed.failures and len(texts[position]) <= _LONGEST_TEXT:
                    kept = embedding.copy()
                    kept.flags.writeable = False
                    self._cache.remember({texts[position]: (kept, position in parsed.truncated)})

"""What both clients hold, and no network touches: settings, and values that were used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen._calls import NoTracing, OpenTelemetry, Tracing, forks
from tuwen._card import ModelCard
from tuwen._clock import Deadline
from tuwen._errors import EmbeddingSpaceError, InvalidArgumentError
from tuwen._fetching import HttpFetcher
from tuwen._pacing import RetryBudget, RetryPolicy, patient
from tuwen._responses import Parsed
from tuwen._routes import Preprocess, Priority, Routes

__all__ = [
    "BaseClient",
    "Cache",
    "LabelCache",
    "TextCache",
]


class BaseClient:
    """The state of a client.

    Raises:
        InvalidArgumentError: a setting makes no sense.
        MissingExtraError: tracing is wanted, and OpenTelemetry is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        retries: RetryPolicy | None,
        preprocess: Preprocess,
        priority: Priority,
        fetcher: HttpFetcher | None,
        expected_fingerprint: str | None,
        tracing: bool,
        remembered_texts: int,
    ) -> None:
        Deadline(timeout)
        if remembered_texts < 0:
            raise InvalidArgumentError(f"remembered_texts is 0 or more, not {remembered_texts}")
        self._url = url
        self._timeout = timeout
        self._routes = Routes(preprocess, fetcher, priority=priority)
        self._tracing: Tracing = OpenTelemetry() if tracing else NoTracing()
        self._fingerprint = expected_fingerprint
        self._card: ModelCard | None = None
        self._accepting = threading.Lock()
        self._labels = LabelCache()
        self._texts = TextCache(remembered_texts)
        retries = retries or RetryPolicy()
        self._retry_budget, self._patience = RetryBudget(retries), patient(retries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url!r}, timeout={self._timeout:g})"

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        """Around what a call does; `name` is that of its span.

        Raises:
            ForkError: this process was forked while calls were in flight.
        """
        with forks.call(), self._tracing.span(name, self._url):
            yield

    def _deadline(self, timeout: float | None) -> Deadline:
        """Return the deadline of a call, or of a request of a stream, that begins now.

        Raises:
            ForkError: this process was forked while calls were in flight.
        """
        forks.check()
        return Deadline(self._timeout if timeout is None else timeout)

    def _accept(self, card: ModelCard) -> ModelCard:
        """Remember the first card, and hold every later one to its embedding space.

        Raises:
            EmbeddingSpaceError: it is not the expected space, or no longer the same.
        """
        with self._accepting:
            if self._fingerprint not in (None, card.fingerprint):
                raise EmbeddingSpaceError(str(self._fingerprint), card.fingerprint)
            self._fingerprint, self._card = card.fingerprint, card
        return card


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
            found: the embeddings and failures of the texts.
        """
        for parsed in found:
            for position, embedding in zip(parsed.positions, parsed.embeddings, strict=True):
                if position not in parsed.failures and len(texts[position]) <= _LONGEST_TEXT:
                    kept = embedding.copy()
                    kept.flags.writeable = False
                    self._cache.remember({texts[position]: (kept, position in parsed.truncated)})


class LabelCache:
    """Remembers the vectors of the labels used last; safe to share between threads."""

    def __init__(self, size: int = 4096) -> None:
        self._cache: Cache[tuple[str, tuple[str, ...]], NDArray[np.float32]] = Cache(size)

    def known(self, labels: tuple[str, ...], templates: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        """The vectors (D,) of those labels that are remembered under these templates."""
        known = self._cache.known((label, templates) for label in labels)
        return {label: vector for (label, _), vector in known.items()}

    def remember(self, vectors: Mapping[str, NDArray[np.float32]], templates: tuple[str, ...]) -> None:
        """Keep vectors, and forget those used longest ago when there are too many."""
        self._cache.remember({(label, templates): vector for label, vector in vectors.items()})

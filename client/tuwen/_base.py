"""What both clients hold, and no network touches."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tuwen._cache import TextCache
from tuwen._card import ModelCard
from tuwen._deadline import Deadline
from tuwen._errors import EmbeddingSpaceError, InvalidArgumentError
from tuwen._fetching import HttpFetcher
from tuwen._forks import forks
from tuwen._retries import RetryBudget, RetryPolicy, patient
from tuwen._routes import Preprocess, Priority, Routes
from tuwen._tracing import NoTracing, OpenTelemetry, Tracing
from tuwen.zero_shot import LabelCache

__all__ = ["BaseClient"]


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

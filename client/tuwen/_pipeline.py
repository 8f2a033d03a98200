# Written by client/unasync.py from _async_pipeline.py: change that file and run `python client/unasync.py`.
"""The way of requests to a server and of responses back: a window, their order, retries and deadlines.

A call and a stream are the same here: a call collects what a stream gives one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from tuwen import _clock
from tuwen._calls import forks
from tuwen._card import ModelCard
from tuwen._clock import Deadline
from tuwen._errors import ServerError
from tuwen._feed import Feed, cancel_all
from tuwen._pacing import Pace, RetryBudget
from tuwen._requests import EmbeddingBatch, InferResponse, Part, naming
from tuwen._responses import Parsed, parse
from tuwen._transport import PendingResponse, Transport

__all__ = ["Pipeline"]

Result = TypeVar("Result")


class Pipeline:
    """Sends the requests of one call or stream.

    Args:
        transport: the way to the server.
        budget: of the retries.
        deadline: returns the deadline of a request that is about to be sent, and of the retries that begin when its
            response is wanted: a call has one for all its requests, and a stream a new one each time, because its
            consumer may be slow.
    """

    def __init__(self, transport: Transport, budget: RetryBudget, deadline: Callable[[], Deadline]) -> None:
        self._transport = transport
        self._budget = budget
        self._deadline = deadline

    def ask(self, question: Callable[[float], Result]) -> Result:
        """Return the answer to a question, a method of the transport that takes the seconds remaining.

        Raises:
            ServerError: the question failed, and its retries too.
        """
        deadline = self._deadline()

        def attempt() -> Result:
            return question(deadline.remaining())

        return self._retried(attempt, attempt, deadline)

    def answers(
        self, feed: Feed, card: ModelCard, *, pace: Pace | None = None, patient: bool = False
    ) -> Generator[tuple[Part, Parsed], None, None]:
        """Yield each part of a feed with its embeddings and failures, in order. A request is freed after its response.

        Args:
            feed: makes the requests, and is closed at the end.
            card: that the responses are held to.
            pace: how many requests may be on their way at once; None: one after the other.
            patient: yield what was sent before an error of the source, or of an item that cannot be sent, is raised.

        Raises:
            ServerError: a request failed, and its retries too; names its items.
            InferenceError, EmbeddingSpaceError: as `parse`.
            Exception: what the feed raises.
        """
        in_flight: deque[_Sent] = deque()
        failure: Exception | None = None
        try:
            while failure is None:
                # Before the next request is made, because answers change the size of the next one.
                if len(in_flight) >= (pace.requests if pace else 1) or (
                    in_flight and not feed.has_next(in_flight[0].pending)
                ):
                    yield self._received(in_flight, card, pace)
                    continue
                try:
                    made = feed.next()
                    if made is None:
                        break
                    in_flight.append(self._sent(*made, len(in_flight), card, alone=pace is None))
                except Exception as error:
                    if not patient:
                        raise
                    failure = error
            while in_flight:
                yield self._received(in_flight, card, pace)
            if failure is not None:
                raise failure
        finally:
            failure = None  # whose traceback holds this frame
            feed.close()
            if not forks.broken:  # else they are the parent's
                cancel_all(sent.pending for sent in in_flight if sent.pending is not None)

    def _sent(self, part: Part, batch: EmbeddingBatch, ahead: int, card: ModelCard, *, alone: bool) -> _Sent:
        """Send a request, unless nothing happens before its response is wanted, or it holds no item."""
        if alone or not batch.positions:
            return _Sent(part, batch, None, ahead)
        with naming(batch, card.fingerprint):
            return _Sent(part, batch, self._transport.send(batch.request, self._deadline().remaining()), ahead)

    def _received(self, in_flight: deque[_Sent], card: ModelCard, pace: Pace | None) -> tuple[Part, Parsed]:
        """Wait for the first response, and take its request out of the window."""
        sent, deadline = in_flight[0], self._deadline()
        batch, pending = sent.batch, sent.pending

        def attempt() -> InferResponse:
            return self._transport.infer(batch.request, deadline.remaining())

        response: InferResponse | None = None
        if batch.positions:
            with naming(batch, card.fingerprint):
                response = self._retried(pending.result if pending else attempt, attempt, deadline)
                self._budget.succeeded()  # a card that was read tells nothing of the queues, and earns no retry
        in_flight.popleft()
        if pace is not None and pending is not None:
            pace.answered(len(batch.positions), pending.seconds(), sent.ahead + 1)
        return sent.part, parse(batch, response, card)

    def _retried(self, first: Callable[[], Result], again: Callable[[], Result], deadline: Deadline) -> Result:
        attempts, attempt = self._budget.request(), first
        while True:
            try:
                result = attempt()
            except ServerError as error:
                pause = attempts.pause(error, deadline.left())
                if pause is None:
                    raise
            else:
                return result
            _clock.pause(pause)
            attempt = again


@dataclass(frozen=True)
class _Sent:
    """A request in the window.

    Attributes:
        pending: None: the request is sent when its response is wanted, or holds no item.
        ahead: how many requests were unanswered when it was sent.
    """

    part: Part
    batch: EmbeddingBatch
    pending: PendingResponse | None
    ahead: int

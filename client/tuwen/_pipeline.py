# Written by client/unasync.py from _async_pipeline.py: change that file and run `python client/unasync.py`.
"""The path from items to their embeddings: requests in flight, their order, retries, deadlines and a cache.

A call and a stream share this code: a call collects the results that a stream yields one by one.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Container, Generator, Hashable, Iterable, Sized
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tuwen import clock
from tuwen._errors import EmbeddingSpaceError, ModelNotFoundError, ServerError, ServerStoppingError
from tuwen._feed import Feed, cancel_all
from tuwen._pacing import Pace, RetryBudget, RetryPolicy, call_pace, patient
from tuwen._requests import Chunker, EmbeddingBatch, Part, as_list, batch_of, key_of, naming, parts
from tuwen._responses import (
    ItemOutcome,
    Parsed,
    TextCache,
    TextTruncatedWarning,
    assemble,
    outcomes,
    parse,
    recalled,
)
from tuwen._routes import Kind, Route, Routes
from tuwen._transport import InferResponse, ModelCard, PendingResponse, Transport, forks
from tuwen.clock import Deadline
from tuwen.model_names import names_in
from tuwen.statistics import Profile, difference, profile_of

__all__ = ["Pipeline"]

Result = TypeVar("Result")

_STATISTICS_READS = 20  # the maximum; a server counts a request shortly after it has sent the response


class Pipeline:
    """The pipeline that sends one client's items to a server and turns the responses into results.

    Args:
        transport: the transport to the server.
        routes: the routes from items to models.
        retries: the retry policy of each request.
        expected_fingerprint: the fingerprint of the required embedding space; None: the space of the first model card.
        remembered_texts: the maximum number of texts whose embeddings are kept for later calls; 0: none.
    """

    def __init__(
        self,
        transport: Transport,
        routes: Routes,
        retries: RetryPolicy,
        *,
        expected_fingerprint: str | None,
        remembered_texts: int,
    ) -> None:
        self._transport = transport
        self._routes = routes
        self._budget, self._patience = RetryBudget(retries), patient(retries)
        self._fingerprint = expected_fingerprint
        self._card: ModelCard | None = None
        self._accepting = threading.Lock()
        self._texts = TextCache(remembered_texts)

    def card(self, deadline: Deadline) -> ModelCard:
        """Return the model card. The first call requests the card; later calls return the kept card.

        Raises:
            EmbeddingSpaceError: the card has another embedding space than expected.
            ServerError: the server or the connection failed.
        """
        if self._card is None:
            card = self._card_of(self._routes.model, deadline)
            with self._accepting:
                if self._fingerprint not in (None, card.fingerprint):
                    raise EmbeddingSpaceError(str(self._fingerprint), card.fingerprint)
                self._fingerprint, self._card = card.fingerprint, card
        return self._card

    def cards(self, deadline: Deadline) -> dict[str, ModelCard]:
        """Return the cards of all models that the server has loaded, by name.

        Raises:
            ServerError: the server or the connection failed.
        """
        found = {}
        for name in names_in(self.ask(self._transport.statistics, deadline)):
            try:
                found[name] = self._card_of(name, deadline)
            except (ModelNotFoundError, ServerStoppingError):  # the model was unloaded meanwhile
                continue
        return found

    def _card_of(self, name: str, deadline: Deadline) -> ModelCard:
        return self.ask(partial(self._transport.model_card, model=name), deadline)

    def embed(self, kind: Kind, items: object, deadline: Deadline) -> NDArray[np.float32]:
        """Return the unit vectors, float32 (n, D), of all items of a call, in order."""
        listed = as_list(kind, items)
        card = self.card(deadline)
        found = self._parsed(kind, listed, card, deadline)
        embeddings, truncated = assemble(kind, len(listed), card.embedding_dimension, found)
        if truncated:
            shown = ", ".join(map(str, truncated[:10])) + (", ..." if len(truncated) > 10 else "")
            message = (
                f"{len(truncated)} of {len(listed)} texts are longer than {card.context_length} tokens, so their ends "
                f"were ignored; positions: {shown}"
            )
            warnings.warn(message, TextTruncatedWarning, stacklevel=3)  # 3: the caller of the client's method
        return embeddings

    def attempt(self, kind: Kind, items: object, deadline: Deadline) -> list[ItemOutcome]:
        """Return an outcome for each item of a call, in order."""
        listed = as_list(kind, items)
        found = self._parsed(kind, listed, self.card(deadline), deadline)
        by_index = {
            outcome.index: outcome
            for parsed in found
            for outcome in outcomes(((index, key_of(listed[index], index)) for index in parsed.items), parsed)
        }
        return [by_index[index] for index in range(len(listed))]

    def stream(
        self,
        kind: Kind,
        items: Iterable[Any],
        deadline: Callable[[], Deadline],
        *,
        window: int,
        skip: Container[Hashable],
        progress: bool,
    ) -> Generator[ItemOutcome, None, None]:
        """Yield an outcome for each item of a stream that is not skipped, in order.

        Args:
            kind: the kind of the items, ``image`` or ``text``.
            items: the source of the items.
            deadline: a function that returns the deadline of a request that begins now.
            window: the maximum number of items in flight.
            skip: the keys of items to leave out.
            progress: whether to show a progress bar, if standard error is a terminal.
        """
        card = self.card(deadline())
        limit, check = card.max_batch_size, self._routes.check
        chunker = Chunker(kind, window=window, max_batch_size=limit, skip=skip, check=check)

        def build(part: Part) -> EmbeddingBatch:
            return batch_of(self._routes.to(kind, card, deadline=deadline(), bulk=True), part)

        feed = Feed(items, build, chunker=chunker, threads=self._routes.readers if kind == "image" else None)
        sending = _Window(self._transport, RetryBudget(self._patience), deadline)
        total = len(items) if isinstance(items, Sized) else None
        hidden = None if progress else True  # None: hidden unless standard error is a terminal
        with forks.call(), tqdm(total=total, unit=" items", disable=hidden, smoothing=0.05) as bar:
            with closing(sending.answers(feed, card, pace=chunker.pace, patient=True)) as answers:
                for part, parsed in answers:
                    keys = ((index, key) for (index,), key in zip(part.positions, part.keys, strict=True))
                    for outcome in outcomes(keys, parsed):
                        bar.update()
                        yield outcome

    def profile(self, images: list[Any], texts: list[Any], deadline: Deadline) -> Profile:
        """Embed items, one request after the other, and return the time that each step took."""
        card = self.card(deadline)
        before, start = self.ask(self._transport.statistics, deadline), time.perf_counter()
        waiting, sent = 0.0, Counter[str]()
        kinds: tuple[tuple[Kind, list[Any]], ...] = (("image", images), ("text", texts))
        for kind, items in kinds:
            route = self._routes.to(kind, card, deadline=deadline)
            building, asked = _Building(route), time.perf_counter()
            wanted = parts(kind, items, call_pace(kind, card).size)
            feed = Feed(wanted, building.batch_of, threads=self._routes.readers if route.reads(items) else None)
            with closing(self._window(deadline).answers(feed, card)) as answers:
                found = [parsed for _, parsed in answers]
            waiting += time.perf_counter() - asked - building.seconds
            assemble(kind, len(items), card.embedding_dimension, found)
            sent += building.requests
        total = time.perf_counter() - start
        for _ in range(_STATISTICS_READS):
            counted = difference(self.ask(self._transport.statistics, deadline), before)
            if all(model in counted and counted[model].requests >= number for model, number in sent.items()):
                break
        return profile_of(len(images) + len(texts), sent, total, waiting, counted, name=card.name)

    def ask(self, question: Callable[[float], Result], deadline: Deadline) -> Result:
        """Call a method of the transport. If the method raises a retryable error, call it again.

        Args:
            question: the method. Its argument is the number of seconds remaining.
            deadline: the deadline of the call and its retries.

        Raises:
            ServerError: the call and its retries failed.
        """

        def attempt() -> Result:
            return question(deadline.remaining())

        return self._window(deadline).retried(attempt, attempt, deadline)

    def close(self) -> None:
        """Close the connection, end the threads and drop the cached embeddings of texts."""
        self._transport.close()
        self._routes.close()
        self._texts.forget()

    def _parsed(self, kind: Kind, items: list[Any], card: ModelCard, deadline: Deadline) -> list[Parsed]:
        """Return the embedding or the failure of every item of a call. Texts with a cached embedding are not sent."""
        known = self._texts.known(items) if kind == "text" else {}
        route, pace = self._routes.to(kind, card, deadline=deadline), call_pace(kind, card)
        wanted = parts(kind, items, pace.size, known)
        threads = self._routes.readers if route.reads(items) else None
        feed = Feed(wanted, partial(batch_of, route), threads=threads)
        window = self._window(deadline)
        with closing(window.answers(feed, card, pace=pace if len(wanted) > 1 else None)) as answers:
            found = [parsed for _, parsed in answers]
        if kind == "text":
            self._texts.remember(items, found)
        return [*found, recalled(items, known)] if known else found

    def _window(self, deadline: Deadline) -> _Window:
        """Return the window of one call."""
        return _Window(self._transport, self._budget, lambda: deadline)


class _Window:
    """The requests of one call or stream that are in flight.

    Args:
        transport: the transport to the server.
        budget: the retry budget.
        deadline: a function that returns the deadline of a request. The window calls it before the request is sent, and
            again before the response is awaited. All requests of a call have the same deadline. In a stream, the time
            until a deadline starts when the window calls the function, because the stream's consumer may be slow.
    """

    def __init__(self, transport: Transport, budget: RetryBudget, deadline: Callable[[], Deadline]) -> None:
        self._transport = transport
        self._budget = budget
        self._deadline = deadline

    def answers(
        self, feed: Feed, card: ModelCard, *, pace: Pace | None = None, patient: bool = False
    ) -> Generator[tuple[Part, Parsed], None, None]:
        """Yield each part of a feed with its embeddings and failures, in order. Drop each request after its response.

        Args:
            feed: the feed, which makes the requests. It is closed at the end.
            card: the model card that the responses must agree with.
            pace: the pace, which limits the number of requests in flight; None: one request at a time.
            patient: whether to yield the results of earlier requests before an error of the feed is raised.

        Raises:
            ServerError: a request and its retries failed. The error names the items of the request.
            InferenceError: a response is invalid.
            EmbeddingSpaceError: a response belongs to another embedding space than the card.
            Exception: the source of the items failed, or an item cannot be sent.
        """
        in_flight: deque[_Sent] = deque()
        failure: Exception | None = None
        try:
            while failure is None:
                # Responses are received before the next request is made, because responses change the size of requests.
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
            failure = None  # its traceback refers to this frame, and the cycle would keep the frame alive
            feed.close()
            if not forks.broken:  # after a fork, the requests belong to the parent process
                cancel_all(sent.pending for sent in in_flight if sent.pending is not None)

    def _sent(self, part: Part, batch: EmbeddingBatch, ahead: int, card: ModelCard, *, alone: bool) -> _Sent:
        """Send a request and return its entry for the window.

        If `alone` is true, the request is not sent now; `_received` sends it. A request without items is never sent.
        """
        if alone or not batch.positions:
            return _Sent(part, batch, None, ahead)
        with naming(batch, card.fingerprint):
            return _Sent(part, batch, self._transport.send(batch.request, self._deadline().remaining()), ahead)

    def _received(self, in_flight: deque[_Sent], card: ModelCard, pace: Pace | None) -> tuple[Part, Parsed]:
        """Wait for the oldest response, and remove its request from the window."""
        sent, deadline = in_flight[0], self._deadline()
        batch, pending = sent.batch, sent.pending

        def attempt() -> InferResponse:
            return self._transport.infer(batch.request, deadline.remaining())

        response: InferResponse | None = None
        if batch.positions:
            with naming(batch, card.fingerprint):
                response = self.retried(pending.result if pending else attempt, attempt, deadline)
                self._budget.succeeded()  # only here: reading a card says nothing about the queues
        in_flight.popleft()
        if pace is not None and pending is not None:
            pace.answered(len(batch.positions), pending.seconds(), sent.ahead + 1)
        return sent.part, parse(batch, response, card)

    def retried(self, first: Callable[[], Result], again: Callable[[], Result], deadline: Deadline) -> Result:
        """Return the result of the first attempt that succeeds.

        Args:
            first: a function that makes the first attempt, such as waiting for a request in flight.
            again: a function that makes each further attempt.
            deadline: the deadline of all attempts and the pauses between them.

        Raises:
            ServerError: an attempt failed, and a retry cannot help or there is no time left.
        """
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
            clock.pause(pause)
            attempt = again


@dataclass(frozen=True)
class _Sent:
    """A request in the window.

    Attributes:
        part: the part of the feed that the request was made from.
        batch: the request, and the failures of items that could not be sent.
        pending: the pending response; None: the request is not sent yet, or holds no item.
        ahead: the number of requests in flight before this request was sent.
    """

    part: Part
    batch: EmbeddingBatch
    pending: PendingResponse | None
    ahead: int


class _Building:
    """A builder of requests that measures how long building takes.

    Attributes:
        seconds: the seconds that building requests has taken so far.
        requests: the number of requests, by the name of the model.
    """

    def __init__(self, route: Route) -> None:
        self._route = route
        self.seconds: float = 0.0
        self.requests: Counter[str] = Counter()

    def batch_of(self, part: Part) -> EmbeddingBatch:
        """Return the request for a part. Add the time of building to `seconds`, and the request to `requests`."""
        start = time.perf_counter()
        batch = batch_of(self._route, part)
        self.seconds += time.perf_counter() - start
        if batch.positions:
            self.requests[batch.request.model] += 1
        return batch

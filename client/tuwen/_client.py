"""The synchronous client."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Container, Generator, Hashable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen import _calls, _clock
from tuwen._base import BaseClient
from tuwen._card import ModelCard
from tuwen._connection import Headers, Tls
from tuwen._deadline import Deadline
from tuwen._errors import ServerError
from tuwen._fetching import HttpFetcher
from tuwen._forks import forks
from tuwen._grpc import GrpcTransport
from tuwen._images import ImageInput
from tuwen._items import check_stream
from tuwen._profile import Profile
from tuwen._requests import EmbeddingBatch, InferResponse, naming, parse
from tuwen._retries import RetryBudget, RetryPolicy
from tuwen._routes import Kind, Preprocess, Priority
from tuwen._scores import Similarity
from tuwen._streams import Chunk, Chunker, ItemOutcome, KeyedImage, KeyedText
from tuwen._transport import PendingResponse, Transport
from tuwen.progress import progress_bar
from tuwen.statistics import Statistics
from tuwen.zero_shot import Classification, Templates

__all__ = ["Client"]

Result = TypeVar("Result")


class Client(BaseClient):
    """Embeddings and similarities from a server that runs a tuwen repository.

    Safe to share between threads. Use it as a context manager, or call `close`.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        timeout: seconds that a whole call may take, however many requests and retries it needs; every method can
            override it.
        tls: encryption; None talks plainly.
        headers: what every request carries (names are sent in lower case), such as a token for a proxy, or the key of
            Triton's restricted protocols; or a function that gives them. Never shown in errors or `repr`.
        retries: how often a request is tried that failed for want of a server or of room in its queue.
        preprocess: ``client`` decodes and resizes images here, with the server's own code, and sends pixels straight
            to the vision encoder: for when the server's CPUs are the bottleneck. Same vectors, given the same Pillow.
        priority: ``bulk``: the server takes this client's requests when no others wait. Those of streams always are.
        fetcher: takes images at web addresses; None refuses them.
        expected_fingerprint: the embedding space that the vectors must be of, such as that of an index; None takes
            the server's. Either way it is held for the client's life.
        tracing: make an OpenTelemetry span of every call and pass its context on, so that the server's spans join the
            application's trace (extra ``tracing``). A stream makes no span; its requests carry the one it is read in.
        remembered_texts: how many of the texts that calls asked for last keep their embeddings in this client, so that
            a text that comes again needs no request; 0: no text is remembered. Streams and `profile` always ask.
        transport: another way to a server, such as ``tuwen.testing.FakeTransport`` in tests.

    Raises:
        InvalidArgumentError: `url`, `timeout`, `tls` or `headers` make no sense. A server that is not there shows
            in the first call.
        MissingExtraError: `tracing` is wanted, and OpenTelemetry is not installed.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        timeout: float = 30.0,
        tls: Tls | None = None,
        headers: Headers | None = None,
        retries: RetryPolicy | None = None,
        preprocess: Preprocess = "server",
        priority: Priority = "interactive",
        fetcher: HttpFetcher | None = None,
        expected_fingerprint: str | None = None,
        tracing: bool = False,
        remembered_texts: int = 4096,
        transport: Transport | None = None,
    ) -> None:
        super().__init__(
            url,
            timeout=timeout,
            retries=retries,
            preprocess=preprocess,
            priority=priority,
            fetcher=fetcher,
            expected_fingerprint=expected_fingerprint,
            tracing=tracing,
            remembered_texts=remembered_texts,
        )
        self._transport = transport or GrpcTransport(url, tls=tls, headers=headers, tracing=self._tracing)

    def embed_images(self, images: Iterable[ImageInput], *, timeout: float | None = None) -> NDArray[np.float32]:
        """Embed images.

        Args:
            images: an iterable of paths, ``data:`` URLs, encoded bytes, binary files, PIL images or uint8 arrays
                (H, W), (H, W, 3) or (H, W, 4), mixed freely; or one uint8 array (n, H, W, 3).
            timeout: seconds for the whole call.

        Returns:
            float32 (n, D), one unit vector an image, in their order.

        Raises:
            InvalidItemsError: images were refused; lists every one with its index and the reason.
            InvalidArgumentError: a single image, not an iterable, or an element of a type that is no image.
            ServerError: the server, or the way to it, failed.
        """
        deadline = self._deadline(timeout)
        return self._run(_calls.embed("image", images, self._routes.within(deadline), self._texts), deadline)

    def embed_texts(self, texts: Iterable[str], *, timeout: float | None = None) -> NDArray[np.float32]:
        """Embed texts. Those longer than the model's context length are cut, with a `TextTruncatedWarning`.

        Args:
            texts: an iterable of any Unicode strings, such as a list or a pandas Series.
            timeout: seconds for the whole call.

        Returns:
            float32 (n, D), one unit vector a text, in their order.

        Raises:
            InvalidItemsError: texts were refused (too many bytes); lists every one.
            InvalidArgumentError: a single string, not an iterable, or an element that is not a string.
            ServerError: the server, or the way to it, failed.
        """
        return self._run(_calls.embed("text", texts, self._routes, self._texts), self._deadline(timeout))

    def try_embed_images(self, images: Iterable[ImageInput], *, timeout: float | None = None) -> list[ItemOutcome]:
        """Embed images, and get an outcome for each instead of an error for all.

        Returns:
            one `ItemOutcome` an image, in their order; ``ok`` tells those with an embedding.

        Raises:
            InvalidArgumentError, ServerError: as `embed_images`.
        """
        deadline = self._deadline(timeout)
        return self._run(_calls.attempt("image", images, self._routes.within(deadline), self._texts), deadline)

    def try_embed_texts(self, texts: Iterable[str], *, timeout: float | None = None) -> list[ItemOutcome]:
        """Embed texts, and get an outcome for each; as `try_embed_images`. ``truncated`` tells those that were cut."""
        return self._run(_calls.attempt("text", texts, self._routes, self._texts), self._deadline(timeout))

    def similarity(
        self, *, images: Iterable[ImageInput], texts: Iterable[str], timeout: float | None = None
    ) -> Similarity:
        """Compare every image with every text.

        Returns:
            cosines, logits and probabilities, each float32 (number of images, number of texts).

        Raises:
            InvalidArgumentError: no images or no texts.
            InvalidItemsError, ServerError: as `embed_images` and `embed_texts`.
        """
        deadline = self._deadline(timeout)
        return self._run(_calls.compare(images, texts, self._routes.within(deadline), self._texts), deadline)

    def classify(
        self,
        images: Iterable[ImageInput],
        labels: Iterable[str],
        *,
        templates: Templates = "zh",
        timeout: float | None = None,
    ) -> Classification:
        """Tell which of the labels each image shows, without training (zero-shot).

        Every label is put into every template; the mean of those texts' vectors, normalised, is the label's.
        The vectors of labels are remembered, so that a second call with the same labels and templates only sends
        images.

        Args:
            images: as for `embed_images`.
            labels: what the images may show, such as ``["猫", "狗"]``.
            templates: ``zh`` or ``en`` (twelve texts each), ``none`` (the label alone), or your own texts with
                ``{}`` where the label goes.
            timeout: seconds for the whole call.

        Raises:
            InvalidArgumentError: no images, no labels, a label twice, or a template without ``{}``.
            InvalidItemsError, ServerError: as `embed_images` and `embed_texts`.
        """
        deadline = self._deadline(timeout)
        routes = self._routes.within(deadline)
        return self._run(
            _calls.classify(images, labels, templates, routes, cache=self._labels, known_texts=self._texts), deadline
        )

    def stream_images(
        self,
        images: Iterable[ImageInput | KeyedImage],
        *,
        window: int = 64,
        skip: Container[Hashable] = frozenset(),
        progress: bool = False,
        timeout: float | None = None,
    ) -> Generator[ItemOutcome, None, None]:
        """Embed any number of images, in memory that does not grow with them.

        The next images are taken as results are: a slow consumer slows the stream down. A refused image is an
        outcome like any other. A server that goes away is waited for until `timeout`; closing the iterator
        cancels what is on its way.

        Args:
            images: an iterable of images as for `embed_images`, or of ``(key, image)``.
            window: the most images on their way at once.
            skip: keys to leave out, to resume a run that was interrupted.
            progress: show a bar on standard error, if that is a terminal.
            timeout: seconds for each request, retries included.

        Yields:
            a `ItemOutcome` for every image that was not skipped, in their order.

        Raises:
            InvalidArgumentError: a single image or not an iterable, at once; an element of a type that is no image,
                when the stream comes to it, with its position.
            ServerError: the server, or the way to it, failed for longer than `timeout`.
        """
        check_stream("image", images, asynchronous=False)
        return self._stream("image", images, window=window, skip=skip, progress=progress, timeout=timeout)

    def stream_texts(
        self,
        texts: Iterable[str | KeyedText],
        *,
        window: int = 256,
        skip: Container[Hashable] = frozenset(),
        progress: bool = False,
        timeout: float | None = None,
    ) -> Generator[ItemOutcome, None, None]:
        """Embed any number of texts; as `stream_images`, with texts or ``(key, text)``."""
        check_stream("text", texts, asynchronous=False)
        return self._stream("text", texts, window=window, skip=skip, progress=progress, timeout=timeout)

    def model_card(self, *, timeout: float | None = None) -> ModelCard:
        """What the server's vectors are: checkpoint, fingerprint, dimension and so on. Read once, then remembered.

        Raises:
            ServerError: the server, or the way to it, failed, or serves no repository of tuwen's.
        """
        return self._run(_calls.read_card(), self._deadline(timeout))

    def statistics(self, *, timeout: float | None = None) -> Statistics:
        """What the server has counted, model by model: requests, failures, batch sizes, times.

        Raises:
            ServerError: the server, or the way to it, failed.
        """
        return self._run(_calls.read_statistics(), self._deadline(timeout))

    def profile(
        self, *, images: Iterable[ImageInput] = (), texts: Iterable[str] = (), timeout: float | None = None
    ) -> Profile:
        """Embed these, one request after the other, and tell where the time went.

        Raises:
            InvalidArgumentError: neither images nor texts.
            InvalidItemsError, ServerError: as `embed_images` and `embed_texts`.
        """
        deadline = self._deadline(timeout)
        return self._run(_calls.profile(images, texts, self._routes.within(deadline)), deadline)

    def is_ready(self, *, timeout: float = 2.0) -> bool:
        """Whether the server answers and has loaded all its models. Never raises for a server that is not there."""
        with forks.call():
            return self._transport.is_ready(Deadline(timeout).remaining())

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if forks.broken:  # what would be closed is the parent's
            return
        self._transport.close()
        self._routes.close()
        self._texts.forget()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: _calls.Call[Result], deadline: Deadline) -> Result:
        """Do what a call asks for until it returns."""
        answer: object = None
        with forks.call(), self._tracing.span(call, self._url):
            try:
                while True:
                    effect = call.send(answer)
                    if isinstance(effect, _calls.Infer):
                        answer = self._infer(effect, deadline)
                    elif isinstance(effect, _calls.ReadCard):
                        answer = self._card or self._read_card(deadline)
                    elif isinstance(effect, _calls.ReadStatistics):
                        answer = self._ask(self._transport.statistics, deadline)
                    else:
                        warnings.warn(effect.warning, stacklevel=3)
            except StopIteration as done:
                result: Result = done.value
                return result

    def _read_card(self, deadline: Deadline) -> ModelCard:
        return self._accept(self._ask(self._transport.model_card, deadline))

    def _ask(self, question: Callable[[float], Result], deadline: Deadline) -> Result:
        def ask() -> Result:
            return question(deadline.remaining())

        return self._retrying(ask, ask, deadline, self._retry_budget)

    def _stream(
        self,
        kind: Kind,
        items: Iterable[Any],
        *,
        window: int,
        skip: Container[Hashable],
        progress: bool,
        timeout: float | None,
    ) -> Generator[ItemOutcome, None, None]:
        card = self.model_card(timeout=timeout)
        chunker = Chunker(kind, window=window, max_batch_size=card.max_batch_size, skip=skip)
        pace = chunker.pace
        waiting: deque[tuple[Chunk, EmbeddingBatch, PendingResponse | None, int]] = deque()
        budget = RetryBudget(self._patience)

        def send(chunk: Chunk) -> tuple[Chunk, EmbeddingBatch, PendingResponse | None, int]:
            deadline = self._deadline(timeout)
            batch = chunk.batch(self._routes.in_bulk().within(deadline).to(kind, card))
            # What was fetched from the web has used up time of its own: a slow host ends no stream.
            return chunk, batch, self._sent(batch, self._deadline(timeout)), len(waiting)

        def finished() -> Iterator[ItemOutcome]:
            chunk, batch, pending, ahead = waiting[0]
            # Retries begin when the result is wanted: a slow consumer must not use up their time.
            response = self._received(batch, pending, self._deadline(timeout), budget)
            waiting.popleft()
            if pending is not None:
                pace.answered(len(chunk.keys), pending.seconds(), ahead + 1)
            for outcome in chunk.outcomes(parse(batch, response, card)):
                bar.update()
                yield outcome

        # An error of the source, or of an item that cannot be sent, is raised after the outcomes of what was sent.
        failure: Exception | None = None
        with forks.call(), progress_bar(items, shown=progress) as bar:
            try:
                source = iter(items)
                while failure is None:
                    # Before a chunk is begun, because answers change the size of the next one.
                    while not chunker.has_begun and len(waiting) >= pace.requests:
                        yield from finished()
                    try:
                        for chunk in chunker.add(next(source)):
                            waiting.append(send(chunk))
                    except StopIteration:
                        break
                    except Exception as error:
                        failure = error
                try:
                    for chunk in chunker.rest():
                        waiting.append(send(chunk))
                except Exception as error:
                    failure = failure or error
                while waiting:
                    yield from finished()
                if failure is not None:
                    raise failure
            finally:
                failure = None  # whose traceback holds this frame
                _cancel(pending for _, _, pending, _ in waiting)

    def _infer(self, wanted: _calls.Infer, deadline: Deadline) -> _calls.Answers:
        """What the responses hold, in order. A batch is let go when its response has been read."""
        if wanted.pace is None:
            return [wanted.read(batch, self._infer_one(batch, deadline)) for batch in wanted.batches]
        answers: _calls.Answers = []
        pace = wanted.pace
        waiting: deque[tuple[EmbeddingBatch, PendingResponse | None, int]] = deque()

        def finish() -> None:
            batch, pending, ahead = waiting[0]
            answers.append(wanted.read(batch, self._received(batch, pending, deadline, self._retry_budget)))
            waiting.popleft()
            if pending is not None:
                pace.answered(len(batch.positions), pending.seconds(), ahead + 1)

        try:
            for batch in wanted.batches:
                while len(waiting) >= pace.requests:
                    finish()
                waiting.append((batch, self._sent(batch, deadline), len(waiting)))
            while waiting:
                finish()
        finally:
            _cancel(pending for _, pending, _ in waiting)
        return answers

    def _infer_one(self, batch: EmbeddingBatch, deadline: Deadline) -> InferResponse | None:
        if not batch.positions:
            return None
        return self._finished(batch, self._attempt(batch, deadline), deadline, self._retry_budget)

    def _attempt(self, batch: EmbeddingBatch, deadline: Deadline) -> Callable[[], InferResponse]:
        return lambda: self._transport.infer(batch.request, deadline.remaining())

    def _sent(self, batch: EmbeddingBatch, deadline: Deadline) -> PendingResponse | None:
        if not batch.positions:  # a batch of unreadable files only has nothing to send
            return None
        with naming(batch, self._fingerprint):
            return self._transport.send(batch.request, deadline.remaining())

    def _received(
        self, batch: EmbeddingBatch, pending: PendingResponse | None, deadline: Deadline, budget: RetryBudget
    ) -> InferResponse | None:
        return None if pending is None else self._finished(batch, pending.result, deadline, budget)

    def _finished(
        self, batch: EmbeddingBatch, first: Callable[[], InferResponse], deadline: Deadline, budget: RetryBudget
    ) -> InferResponse:
        with naming(batch, self._fingerprint):
            return self._retrying(first, self._attempt(batch, deadline), deadline, budget)

    def _retrying(
        self, first: Callable[[], Result], again: Callable[[], Result], deadline: Deadline, budget: RetryBudget
    ) -> Result:
        attempts, result = budget.request(), first
        while True:
            try:
                value = result()
            except ServerError as error:
                pause = attempts.pause(error, deadline.left())
                if pause is None:
                    raise
            else:
                budget.succeeded()
                return value
            _clock.pause(pause)
            result = again


def _cancel(unfinished: Iterable[PendingResponse | None]) -> None:
    for pending in unfinished:
        if pending is not None and not forks.broken:  # else it is the parent's
            pending.cancel()

"""The asynchronous client."""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Container, Coroutine, Hashable, Iterable
from contextlib import aclosing
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen import _calls, _clock
from tuwen._async_streams import Sent, cancelled, in_order
from tuwen._base import BaseClient
from tuwen._card import ModelCard
from tuwen._connection import AsyncHeaders, Tls
from tuwen._deadline import Deadline
from tuwen._errors import ClientClosedError, ServerError
from tuwen._fetching import HttpFetcher
from tuwen._forks import forks
from tuwen._grpc_aio import AsyncGrpcTransport
from tuwen._images import ImageInput
from tuwen._items import check_stream
from tuwen._pace import Pace
from tuwen._profile import Profile
from tuwen._requests import EmbeddingBatch, InferResponse, naming, parse
from tuwen._retries import RetryBudget, RetryPolicy
from tuwen._routes import Kind, Preprocess, Priority
from tuwen._scores import Similarity
from tuwen._streams import Chunk, Chunker, ItemOutcome, KeyedImage, KeyedText
from tuwen._transport import AsyncTransport
from tuwen.progress import progress_bar
from tuwen.statistics import Statistics
from tuwen.zero_shot import Classification, Templates

__all__ = ["AsyncClient"]

Result = TypeVar("Result")
_Pending = asyncio.Task[InferResponse]


class AsyncClient(BaseClient):
    """The twin of `tuwen.Client` for asyncio: the same methods, awaited.

    Safe to share between tasks of one event loop, that of its first call; a call from another one raises
    `EventLoopError`. Use it as an asynchronous context manager, or await `close`. Files are read, and PIL images
    encoded, in a thread, so that the loop never waits for them. Cancelling a call cancels its requests.

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
        transport: another way to a server, such as ``tuwen.testing.AsyncFakeTransport`` in tests.

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
        headers: AsyncHeaders | None = None,
        retries: RetryPolicy | None = None,
        preprocess: Preprocess = "server",
        priority: Priority = "interactive",
        fetcher: HttpFetcher | None = None,
        expected_fingerprint: str | None = None,
        tracing: bool = False,
        remembered_texts: int = 4096,
        transport: AsyncTransport | None = None,
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
        self._transport = transport or AsyncGrpcTransport(url, tls=tls, headers=headers, tracing=self._tracing)

    async def embed_images(self, images: Iterable[ImageInput], *, timeout: float | None = None) -> NDArray[np.float32]:
        """Embed images into float32 (n, D), one unit vector each; see `Client.embed_images`."""
        deadline = self._deadline(timeout)
        return await self._run(_calls.embed("image", images, self._routes.within(deadline), self._texts), deadline)

    async def embed_texts(self, texts: Iterable[str], *, timeout: float | None = None) -> NDArray[np.float32]:
        """Embed texts into float32 (n, D), one unit vector each; see `Client.embed_texts`."""
        return await self._run(_calls.embed("text", texts, self._routes, self._texts), self._deadline(timeout))

    async def try_embed_images(
        self, images: Iterable[ImageInput], *, timeout: float | None = None
    ) -> list[ItemOutcome]:
        """Embed images, and get an outcome for each; see `Client.try_embed_images`."""
        deadline = self._deadline(timeout)
        return await self._run(_calls.attempt("image", images, self._routes.within(deadline), self._texts), deadline)

    async def try_embed_texts(self, texts: Iterable[str], *, timeout: float | None = None) -> list[ItemOutcome]:
        """Embed texts, and get an outcome for each; see `Client.try_embed_texts`."""
        return await self._run(_calls.attempt("text", texts, self._routes, self._texts), self._deadline(timeout))

    async def similarity(
        self, *, images: Iterable[ImageInput], texts: Iterable[str], timeout: float | None = None
    ) -> Similarity:
        """Compare every image with every text; see `Client.similarity`."""
        deadline = self._deadline(timeout)
        return await self._run(_calls.compare(images, texts, self._routes.within(deadline), self._texts), deadline)

    async def classify(
        self,
        images: Iterable[ImageInput],
        labels: Iterable[str],
        *,
        templates: Templates = "zh",
        timeout: float | None = None,
    ) -> Classification:
        """Tell which of the labels each image shows; see `Client.classify`."""
        deadline = self._deadline(timeout)
        routes = self._routes.within(deadline)
        return await self._run(
            _calls.classify(images, labels, templates, routes, cache=self._labels, known_texts=self._texts), deadline
        )

    def stream_images(
        self,
        images: Iterable[ImageInput | KeyedImage] | AsyncIterable[ImageInput | KeyedImage],
        *,
        window: int = 64,
        skip: Container[Hashable] = frozenset(),
        progress: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[ItemOutcome, None]:
        """Embed any number of images, of an iterable or an asynchronous one; see `Client.stream_images`."""
        check_stream("image", images, asynchronous=True)
        return self._stream("image", images, window=window, skip=skip, progress=progress, timeout=timeout)

    def stream_texts(
        self,
        texts: Iterable[str | KeyedText] | AsyncIterable[str | KeyedText],
        *,
        window: int = 256,
        skip: Container[Hashable] = frozenset(),
        progress: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[ItemOutcome, None]:
        """Embed any number of texts, of an iterable or an asynchronous one; see `Client.stream_texts`."""
        check_stream("text", texts, asynchronous=True)
        return self._stream("text", texts, window=window, skip=skip, progress=progress, timeout=timeout)

    async def model_card(self, *, timeout: float | None = None) -> ModelCard:
        """What the server's vectors are, read once; see `Client.model_card`."""
        return await self._run(_calls.read_card(), self._deadline(timeout))

    async def statistics(self, *, timeout: float | None = None) -> Statistics:
        """What the server has counted, model by model; see `Client.statistics`."""
        return await self._run(_calls.read_statistics(), self._deadline(timeout))

    async def profile(
        self, *, images: Iterable[ImageInput] = (), texts: Iterable[str] = (), timeout: float | None = None
    ) -> Profile:
        """Embed these and tell where the time went; see `Client.profile`."""
        deadline = self._deadline(timeout)
        return await self._run(_calls.profile(images, texts, self._routes.within(deadline)), deadline)

    async def is_ready(self, *, timeout: float = 2.0) -> bool:
        """Whether the server answers and has loaded all its models; see `Client.is_ready`."""
        with forks.call():
            return await self._transport.is_ready(Deadline(timeout).remaining())

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        if forks.broken:  # what would be closed is the parent's
            return
        self._texts.forget()
        await self._transport.close()
        self._routes.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, call: _calls.Call[Result], deadline: Deadline) -> Result:
        """Do what a call asks for until it returns."""
        answer: object = None
        with forks.call(), self._tracing.span(call, self._url):
            try:
                while True:
                    effect = call.send(answer)
                    if isinstance(effect, _calls.Infer):
                        answer = await self._infer(effect, deadline)
                    elif isinstance(effect, _calls.ReadCard):
                        answer = self._card or await self._read_card(deadline)
                    elif isinstance(effect, _calls.ReadStatistics):
                        answer = await self._ask(self._transport.statistics, deadline)
                    else:
                        warnings.warn(effect.warning, stacklevel=3)
            except StopIteration as done:
                result: Result = done.value
                return result

    async def _read_card(self, deadline: Deadline) -> ModelCard:
        return self._accept(await self._ask(self._transport.model_card, deadline))

    async def _ask(self, question: Callable[[float], Coroutine[Any, Any, Result]], deadline: Deadline) -> Result:
        return await self._retrying(lambda: question(deadline.remaining()), deadline, self._retry_budget)

    async def _infer(self, wanted: _calls.Infer, deadline: Deadline) -> _calls.Answers:
        """What the responses hold, in order. A batch is let go when its response has been read."""
        pace, budget = wanted.pace, self._retry_budget
        waiting: deque[tuple[EmbeddingBatch, _Pending | None]] = deque()
        answers: _calls.Answers = []

        async def finish() -> None:
            batch, pending = waiting[0]
            answers.append(wanted.read(batch, await pending if pending is not None else None))
            waiting.popleft()

        try:
            while (batch := await self._next(wanted)) is not None:
                while waiting and (pace is None or len(waiting) >= pace.requests):
                    await finish()
                waiting.append((batch, self._sent(batch, deadline, budget, pace, len(waiting))))
            while waiting:
                await finish()
        finally:
            await cancelled(pending for _, pending in waiting)
        return answers

    async def _stream(
        self,
        kind: Kind,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        window: int,
        skip: Container[Hashable],
        progress: bool,
        timeout: float | None,
    ) -> AsyncGenerator[ItemOutcome, None]:
        card = await self.model_card(timeout=timeout)
        chunker = Chunker(kind, window=window, max_batch_size=card.max_batch_size, skip=skip)
        budget = RetryBudget(self._patience)

        async def send(chunk: Chunk, ahead: int) -> Sent[EmbeddingBatch, InferResponse]:
            deadline = self._deadline(timeout)
            route = self._routes.in_bulk().within(deadline).to(kind, card)
            batch = await self._in_thread(chunk.batch, route) if kind == "image" else chunk.batch(route)
            # What was fetched from the web has used up time of its own: a slow host ends no stream.
            return batch, self._sent(batch, self._deadline(timeout), budget, chunker.pace, ahead)

        with forks.call(), progress_bar(items, shown=progress) as bar:
            answers = in_order(items, chunker, window, send)
            async with aclosing(answers):
                async for chunk, batch, response in answers:
                    for outcome in chunk.outcomes(parse(batch, response, card)):
                        bar.update()
                        yield outcome

    def _sent(
        self, batch: EmbeddingBatch, deadline: Deadline, budget: RetryBudget, pace: Pace | None, ahead: int
    ) -> _Pending | None:
        if not batch.positions:  # a batch of unreadable files only has nothing to send
            return None

        async def infer() -> InferResponse:
            start = _clock.now()
            response = await self._infer_one(batch, deadline, budget)
            if pace is not None:
                pace.answered(len(batch.positions), _clock.now() - start, ahead + 1)
            return response

        return asyncio.create_task(infer())

    async def _infer_one(self, batch: EmbeddingBatch, deadline: Deadline, budget: RetryBudget) -> InferResponse:
        with naming(batch, self._fingerprint):
            return await self._retrying(
                lambda: self._transport.infer(batch.request, deadline.remaining()), deadline, budget
            )

    async def _retrying(
        self, attempt: Callable[[], Coroutine[Any, Any, Result]], deadline: Deadline, budget: RetryBudget
    ) -> Result:
        attempts = budget.request()
        while True:
            try:
                value = await attempt()
            except ServerError as error:
                pause = attempts.pause(error, deadline.left())
                if pause is None:
                    raise
            else:
                budget.succeeded()
                return value
            await _clock.async_pause(pause)

    async def _next(self, wanted: _calls.Infer) -> EmbeddingBatch | None:
        if wanted.reads_files:
            return await self._in_thread(next, wanted.batches, None)
        return next(wanted.batches, None)

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        work = asyncio.get_running_loop().run_in_executor(self._routes.readers(), lambda: function(*arguments))
        try:
            return await work
        except asyncio.CancelledError:
            # `close` cancels what waits for a thread; cancelling the caller's task cancels this future as well
            if self._routes.closed and work.cancelled():
                raise ClientClosedError from None
            raise

"""The asynchronous client."""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tuwen import _calls
from tuwen._card import ModelCard
from tuwen._client import REQUESTS_IN_FLIGHT
from tuwen._deadline import Deadline
from tuwen._errors import ServerError
from tuwen._grpc_aio import AsyncGrpcTransport
from tuwen._images import ImageInput
from tuwen._requests import EmbeddingBatch, InferResponse
from tuwen._retries import RetryBudget, RetryPolicy
from tuwen._scores import Similarity
from tuwen._transport import AsyncTransport
from tuwen._zero_shot import Classification, LabelCache, Templates

__all__ = ["AsyncClient"]

Result = TypeVar("Result")
_Pending = asyncio.Task[InferResponse]


class AsyncClient:
    """The twin of `tuwen.Client` for asyncio: the same methods, awaited.

    Safe to share between tasks of one event loop. Use it as an asynchronous context manager, or await `close`.
    Files are read, and PIL images encoded, in a thread, so that the loop never waits for them. Cancelling a call
    cancels its requests.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        timeout: seconds that a whole call may take, however many requests and retries it needs; every method can
            override it.
        retries: how often a request is tried that failed for want of a server or of room in its queue.
        transport: another way to a server, such as ``tuwen.testing.AsyncFakeTransport`` in tests.

    Raises:
        InvalidArgumentError: `url` or `timeout` make no sense. A server that is not there shows in the first call.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        timeout: float = 30.0,
        retries: RetryPolicy | None = None,
        transport: AsyncTransport | None = None,
    ) -> None:
        Deadline(timeout)
        self._url = url
        self._timeout = timeout
        self._transport = transport or AsyncGrpcTransport(url)
        self._card: ModelCard | None = None
        self._labels = LabelCache()
        self._retry_budget = RetryBudget(retries or RetryPolicy())

    async def embed_images(self, images: Sequence[ImageInput], *, timeout: float | None = None) -> NDArray[np.float32]:
        """Embed images into float32 (n, D), one unit vector each; see `Client.embed_images`."""
        return await self._run(_calls.embed("image", images), timeout)

    async def embed_texts(self, texts: Sequence[str], *, timeout: float | None = None) -> NDArray[np.float32]:
        """Embed texts into float32 (n, D), one unit vector each; see `Client.embed_texts`."""
        return await self._run(_calls.embed("text", texts), timeout)

    async def similarity(
        self, *, images: Sequence[ImageInput], texts: Sequence[str], timeout: float | None = None
    ) -> Similarity:
        """Compare every image with every text; see `Client.similarity`."""
        return await self._run(_calls.compare(images, texts), timeout)

    async def classify(
        self,
        images: Sequence[ImageInput],
        labels: Sequence[str],
        *,
        templates: Templates = "zh",
        timeout: float | None = None,
    ) -> Classification:
        """Tell which of the labels each image shows; see `Client.classify`."""
        return await self._run(_calls.classify(images, labels, templates, self._labels), timeout)

    async def model_card(self, *, timeout: float | None = None) -> ModelCard:
        """What the server's vectors are, read once; see `Client.model_card`."""
        return await self._run(_calls.read_card(), timeout)

    async def is_ready(self, *, timeout: float = 2.0) -> bool:
        """Whether the server answers and has loaded all its models; see `Client.is_ready`."""
        return await self._transport.is_ready(Deadline(timeout).remaining())

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._url!r}, timeout={self._timeout:g})"

    async def _run(self, call: _calls.Call[Result], timeout: float | None) -> Result:
        """Do what a call asks for until it returns."""
        deadline = Deadline(self._timeout if timeout is None else timeout)
        answer: object = None
        try:
            while True:
                effect = call.send(answer)
                if isinstance(effect, _calls.Infer):
                    answer = await self._infer(effect, deadline)
                elif isinstance(effect, _calls.ReadCard):
                    answer = await self._read_card(deadline)
                else:
                    warnings.warn(effect.warning, stacklevel=3)
        except StopIteration as done:
            result: Result = done.value
            return result

    async def _read_card(self, deadline: Deadline) -> ModelCard:
        if self._card is None:
            self._card = await self._retrying(lambda: self._transport.model_card(deadline.remaining()), deadline)
        return self._card

    async def _infer(self, wanted: _calls.Infer, deadline: Deadline) -> _calls.Answers:
        """The responses in order, with a bounded number of requests on their way."""
        answers: _calls.Answers = []
        window: deque[tuple[EmbeddingBatch, _Pending | None]] = deque()
        try:
            while (batch := await _next(wanted)) is not None:
                task = None  # a batch of unreadable files only has nothing to send
                if batch.indices:
                    task = asyncio.create_task(self._retrying(self._attempt(batch, deadline), deadline))
                window.append((batch, task))
                if len(window) == REQUESTS_IN_FLIGHT:
                    answers.append(await _received(window))
            while window:
                answers.append(await _received(window))
        finally:
            unfinished = [task for _, task in window if task is not None]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        return answers

    def _attempt(self, batch: EmbeddingBatch, deadline: Deadline) -> Callable[[], Awaitable[InferResponse]]:
        return lambda: self._transport.infer(batch.request, deadline.remaining())

    async def _retrying(self, attempt: Callable[[], Awaitable[Result]], deadline: Deadline) -> Result:
        number = 1
        while True:
            try:
                value = await attempt()
            except ServerError as error:
                pause = self._retry_budget.pause(error, number, deadline.left())
                if pause is None:
                    raise
            else:
                self._retry_budget.succeeded()
                return value
            await asyncio.sleep(pause)
            number += 1


async def _next(wanted: _calls.Infer) -> EmbeddingBatch | None:
    if wanted.reads_files:
        return await asyncio.to_thread(next, wanted.batches, None)
    return next(wanted.batches, None)


async def _received(
    window: deque[tuple[EmbeddingBatch, _Pending | None]],
) -> tuple[EmbeddingBatch, InferResponse | None]:
    batch, task = window[0]
    response = await task if task is not None else None  # it stays in the window meanwhile, to be cancelled with it
    window.popleft()
    return batch, response

"""The asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Container, Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from tuwen._async_pipeline import AsyncPipeline
from tuwen._errors import InvalidArgumentError
from tuwen._fetching import HttpFetcher
from tuwen._grpc import AsyncGrpcTransport
from tuwen._images import ImageInput
from tuwen._pacing import RetryPolicy
from tuwen._requests import KeyedImage, KeyedText, as_list, check_some, check_stream
from tuwen._responses import ItemOutcome
from tuwen._routes import Preprocess, Priority, Routes
from tuwen._transport import AsyncTransport, ModelCard, forks
from tuwen.clock import Deadline
from tuwen.connection import AsyncHeaders, NoTracing, OpenTelemetry, Tls, Tracing
from tuwen.statistics import Profile, Statistics
from tuwen.zero_shot import (
    Classification,
    LabelCache,
    Similarity,
    Templates,
    check_labels,
    label_embeddings,
    label_texts,
    similarity,
    template_texts,
)

__all__ = ["AsyncClient"]


class AsyncClient:
    """Embeddings and similarities from a server that runs a tuwen repository.

    The client offers the methods of `tuwen.Client` as coroutines. All tasks of one event loop may share a client. A
    client belongs to the event loop of its first call; a call from another loop raises `EventLoopError`. Use the client
    as an asynchronous context manager, or await `close`. Threads read files and encode PIL images, so that they do not
    block the event loop. Cancelling a call cancels its requests.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        model: the name of the model, if the server has several models: the name from ``tuwen build --name``, or an
            alias. Empty: the model without a name.
        timeout: seconds for a whole call, with all its requests and retries. Every method can override the timeout.
        tls: the encryption; None: the connection is not encrypted.
        headers: the headers of every request, such as a token for a proxy or the key of Triton's restricted protocols;
            or a function that returns the headers. Names are sent in lower case. Values are never shown in errors or
            in `repr`.
        retries: the number of attempts, and the pauses between them, if the server does not respond or its queue is
            full.
        preprocess: the side that decodes and resizes images, ``server`` or ``client``. With ``client``, the calling
            process decodes and resizes images with the server's own code, and sends pixel values to the vision encoder.
            Choose ``client`` if the server's CPUs are the bottleneck. If both sides have the same version of Pillow,
            both settings give the same vectors.
        priority: the priority of this client's requests, ``interactive`` or ``bulk``. The server handles a request of
            priority ``bulk`` only when no other request waits. Streams always have the priority ``bulk``.
        fetcher: the fetcher of images at web addresses; None: web addresses are refused.
        expected_fingerprint: the fingerprint of the required embedding space, such as the space of an index. None: the
            space of the first response. A response of another space raises `EmbeddingSpaceError`.
        tracing: whether to make an OpenTelemetry span for every call, and to send the span's context with the requests.
            The server's spans then join the application's trace (extra ``tracing``). A stream makes no span; its
            requests carry the application's current span.
        remembered_texts: the maximum number of texts whose embeddings this client keeps, so that a repeated text needs
            no request; 0: none are kept. Streams and `profile` always send requests.
        transport: a replacement for gRPC, such as ``tuwen.testing.AsyncFakeTransport`` in tests.

    Raises:
        InvalidArgumentError: `url`, `model`, `timeout`, `tls` or `headers` are invalid. The server is not contacted
            before the first call.
        MissingExtraError: `tracing` is on, and OpenTelemetry is not installed.
    """

    def __init__(
        self,
        url: str = "localhost:8001",
        *,
        model: str = "",
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
        Deadline(timeout)
        if remembered_texts < 0:
            raise InvalidArgumentError(f"remembered_texts: expected 0 or more, got {remembered_texts}")
        self._url = url
        self._timeout = timeout
        self._model = model
        routes = Routes(preprocess, fetcher, priority=priority, model=model)
        self._tracing: Tracing = OpenTelemetry() if tracing else NoTracing()
        self._labels = LabelCache()
        self._transport = transport or AsyncGrpcTransport(url, tls=tls, headers=headers, tracing=self._tracing)
        self._pipeline = AsyncPipeline(
            self._transport,
            routes,
            retries or RetryPolicy(),
            expected_fingerprint=expected_fingerprint,
            remembered_texts=remembered_texts,
        )

    def __repr__(self) -> str:
        model = f", model={self._model!r}" if self._model else ""
        return f"{type(self).__name__}({self._url!r}{model}, timeout={self._timeout:g})"

    async def embed_images(self, images: Iterable[ImageInput], *, timeout: float | None = None) -> NDArray[np.float32]:
        """Embed images.

        Args:
            images: an iterable of paths, ``data:`` URLs, encoded bytes, binary files, PIL images or uint8 arrays
                (H, W), (H, W, 3) or (H, W, 4), mixed freely; or one uint8 array (n, H, W, 3).
            timeout: seconds for the whole call.

        Returns:
            an array, float32 (n, D), with one unit vector per image, in order.

        Raises:
            InvalidItemsError: images were refused. The error lists each with its index and the reason.
            InvalidArgumentError: `images` is a single image or not an iterable, or an element is not an image.
            ServerError: the server or the connection failed.
        """
        with self._call("embed"):
            return await self._pipeline.embed("image", images, self._deadline(timeout))

    async def embed_texts(self, texts: Iterable[str], *, timeout: float | None = None) -> NDArray[np.float32]:
        """Embed texts. Texts that are longer than the model's context length are cut, with a `TextTruncatedWarning`.

        Args:
            texts: an iterable of any Unicode strings, such as a list or a pandas Series.
            timeout: seconds for the whole call.

        Returns:
            an array, float32 (n, D), with one unit vector per text, in order.

        Raises:
            InvalidItemsError: texts with too many bytes were refused. The error lists each with its index.
            InvalidArgumentError: `texts` is a single string or not an iterable, or an element is not a string.
            ServerError: the server or the connection failed.
        """
        with self._call("embed"):
            return await self._pipeline.embed("text", texts, self._deadline(timeout))

    async def try_embed_images(
        self, images: Iterable[ImageInput], *, timeout: float | None = None
    ) -> list[ItemOutcome]:
        """Embed images, and return an outcome for each. A refused image raises no error.

        Returns:
            one `ItemOutcome` per image, in the same order. Its ``ok`` is true if the image has an embedding.

        Raises:
            InvalidArgumentError: `images` is a single image or not an iterable, or an element is not an image.
            ServerError: the server or the connection failed.
        """
        with self._call("attempt"):
            return await self._pipeline.attempt("image", images, self._deadline(timeout))

    async def try_embed_texts(self, texts: Iterable[str], *, timeout: float | None = None) -> list[ItemOutcome]:
        """Embed texts, and return an outcome for each. A refused text raises no error.

        Returns:
            one `ItemOutcome` per text, in the same order. Its ``ok`` is true if the text has an embedding. Its
            ``truncated`` is true if the text was cut to the model's context length.

        Raises:
            InvalidArgumentError: `texts` is a single string or not an iterable, or an element is not a string.
            ServerError: the server or the connection failed.
        """
        with self._call("attempt"):
            return await self._pipeline.attempt("text", texts, self._deadline(timeout))

    async def similarity(
        self, *, images: Iterable[ImageInput], texts: Iterable[str], timeout: float | None = None
    ) -> Similarity:
        """Compare every image with every text.

        Returns:
            the cosines, logits and probabilities. Each is an array, float32 (number of images, number of texts).

        Raises:
            InvalidArgumentError: there are no images or no texts.
            InvalidItemsError: images or texts were refused. The error lists each with its index and the reason.
            ServerError: the server or the connection failed.
        """
        with self._call("compare"):
            deadline = self._deadline(timeout)
            images, texts = check_some("similarity", "image", images), check_some("similarity", "text", texts)
            image_embeddings = await self._pipeline.embed("image", images, deadline)
            text_embeddings = await self._pipeline.embed("text", texts, deadline)
            card = await self._pipeline.card(deadline)
            return similarity(image_embeddings, text_embeddings, card.logit_scale)

    async def classify(
        self,
        images: Iterable[ImageInput],
        labels: Iterable[str],
        *,
        templates: Templates = "zh",
        timeout: float | None = None,
    ) -> Classification:
        """Return the probabilities of the labels for each image, without training (zero-shot classification).

        Each template makes a text from a label. The vector of a label is the normalised mean of the vectors of its
        texts. The client keeps the vectors of labels, so that a second call with the same labels and templates sends
        only images.

        Args:
            images: an iterable of images, in any form that `embed_images` takes.
            labels: the names of things that the images may show, such as ``["猫", "狗"]``.
            templates: ``zh`` or ``en`` (twelve templates each), ``none`` (the label alone), or your own texts with
                ``{}`` in place of the label.
            timeout: seconds for the whole call.

        Raises:
            InvalidArgumentError: there are no images or no labels, a label is repeated, or a template lacks ``{}``.
            InvalidItemsError: images or labels were refused. The error lists each with its index and the reason.
            ServerError: the server or the connection failed.
        """
        with self._call("classify"):
            deadline = self._deadline(timeout)
            checked, texts = check_labels(labels), template_texts(templates)
            images = check_some("classify", "image", images)
            known = self._labels.known(checked, texts)
            if missing := [label for label in checked if label not in known]:
                vectors = await self._pipeline.embed("text", label_texts(missing, texts), deadline)
                found = dict(zip(missing, label_embeddings(vectors, len(texts)), strict=True))
                self._labels.remember(found, texts)
                known |= found
            image_embeddings = await self._pipeline.embed("image", images, deadline)
            card = await self._pipeline.card(deadline)
            label_vectors = np.stack([known[label] for label in checked])
            return Classification(checked, similarity(image_embeddings, label_vectors, card.logit_scale))

    def stream_images(
        self,
        images: Iterable[ImageInput | KeyedImage] | AsyncIterable[ImageInput | KeyedImage],
        *,
        window: int = 64,
        skip: Container[Hashable] = frozenset(),
        progress: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[ItemOutcome, None]:
        """Embed any number of images with a bounded amount of memory.

        Images are read only as fast as the caller takes the results. A refused image does not end the stream; its
        outcome states the reason. If the server does not respond, the stream repeats a request for up to `timeout`
        seconds. Closing the iterator cancels the requests in flight.

        Args:
            images: an iterable or asynchronous iterable of images, in any form that `embed_images` takes,
                or of pairs ``(key, image)``.
            window: the maximum number of images in flight.
            skip: the keys of images to leave out, to resume an interrupted run.
            progress: whether to show a progress bar, if standard error is a terminal.
            timeout: seconds for each request, retries included.

        Yields:
            an `ItemOutcome` for every image that was not skipped, in the same order.

        Raises:
            InvalidArgumentError: `images` is a single image or not an iterable (raised at once), or an element is not
                an image (raised when the stream reaches the element; the message states its position).
            ServerError: the server or the connection failed for longer than `timeout`.
        """
        check_stream("image", images, asynchronous=True)
        deadline = partial(self._deadline, timeout)
        return self._pipeline.stream("image", images, deadline, window=window, skip=skip, progress=progress)

    def stream_texts(
        self,
        texts: Iterable[str | KeyedText] | AsyncIterable[str | KeyedText],
        *,
        window: int = 256,
        skip: Container[Hashable] = frozenset(),
        progress: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[ItemOutcome, None]:
        """Embed any number of texts with a bounded amount of memory. The stream works as `stream_images` describes.

        Args:
            texts: an iterable or asynchronous iterable of strings or of pairs ``(key, text)``.
            window: the maximum number of texts in flight.
            skip: the keys of texts to leave out, to resume an interrupted run.
            progress: whether to show a progress bar, if standard error is a terminal.
            timeout: seconds for each request, retries included.

        Yields:
            an `ItemOutcome` for every text that was not skipped, in the same order.

        Raises:
            InvalidArgumentError: `texts` is a single string or not an iterable (raised at once), or an element is not
                a string (raised when the stream reaches the element; the message states its position).
            ServerError: the server or the connection failed for longer than `timeout`.
        """
        check_stream("text", texts, asynchronous=True)
        deadline = partial(self._deadline, timeout)
        return self._pipeline.stream("text", texts, deadline, window=window, skip=skip, progress=progress)

    async def model_card(self, *, timeout: float | None = None) -> ModelCard:
        """Return the model card: checkpoint, fingerprint, dimension and more. The card is requested once, then kept.

        Raises:
            ServerError: the server or the connection failed, or the server has no repository that tuwen built.
        """
        with self._call("read_card"):
            return await self._pipeline.card(self._deadline(timeout))

    async def models(self, *, timeout: float | None = None) -> dict[str, ModelCard]:
        """Return the cards of all models that the server has loaded, by name, whatever this client's model is.

        The empty string stands for a model without a name. Each alias is listed too, with the card of its model. That
        card states the name of the model, not the alias.

        Raises:
            AccessDeniedError: the server requires an access key for its statistics, which list the models.
            ServerError: the server or the connection failed.
        """
        with self._call("read_cards"):
            return await self._pipeline.cards(self._deadline(timeout))

    async def statistics(self, *, timeout: float | None = None) -> Statistics:
        """Return the server's statistics by model: requests, failures, batch sizes, times.

        Raises:
            ServerError: the server or the connection failed.
        """
        with self._call("read_statistics"):
            return await self._pipeline.ask(self._transport.statistics, self._deadline(timeout))

    async def profile(
        self, *, images: Iterable[ImageInput] = (), texts: Iterable[str] = (), timeout: float | None = None
    ) -> Profile:
        """Embed items, one request after the other, and return the time that each step took.

        Raises:
            InvalidArgumentError: there are neither images nor texts.
            InvalidItemsError: images or texts were refused. The error lists each with its index and the reason.
            ServerError: the server or the connection failed.
        """
        with self._call("profile"):
            deadline = self._deadline(timeout)
            listed = as_list("image", images), as_list("text", texts)
            if not any(listed):
                raise InvalidArgumentError("expected images or texts to profile, got neither")
            return await self._pipeline.profile(*listed, deadline)

    async def is_ready(self, *, timeout: float = 2.0) -> bool:
        """Return whether the server responds and has loaded the client's model.

        If the client has no model name, all models of the server must be loaded. If no server responds within
        `timeout` seconds, the result is false.
        """
        with forks.call():
            return await self._transport.is_ready(Deadline(timeout).remaining(), self._model)

    async def close(self) -> None:
        """Close the connection. Closing it again does nothing."""
        if forks.broken:  # the connection belongs to the parent process
            return
        await self._pipeline.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        """Provide the context of one call: count the call as in flight, and record a span with the name of the call.

        Raises:
            ForkError: this process was forked while calls were in flight.
        """
        with forks.call(), self._tracing.span(name, self._url):
            yield

    def _deadline(self, timeout: float | None) -> Deadline:
        """Return the deadline, counted from now, of a call or of one request of a stream.

        Args:
            timeout: the seconds until the deadline; None: the client's timeout.

        Raises:
            ForkError: this process was forked while calls were in flight.
        """
        forks.check()
        return Deadline(self._timeout if timeout is None else timeout)

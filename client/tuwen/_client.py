# Written by client/unasync.py from _async_client.py: change that file and run `python client/unasync.py`.
"""The synchronous client."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Container, Generator, Hashable, Iterable
from contextlib import closing
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuwen._base import BaseClient
from tuwen._calls import forks
from tuwen._card import ModelCard
from tuwen._clock import Deadline
from tuwen._connection import Headers, Tls
from tuwen._errors import InvalidArgumentError
from tuwen._feed import Feed
from tuwen._fetching import HttpFetcher
from tuwen._grpc import GrpcTransport
from tuwen._images import ImageInput
from tuwen._pacing import RetryBudget, RetryPolicy, call_pace
from tuwen._pipeline import Pipeline
from tuwen._requests import (
    Chunker,
    EmbeddingBatch,
    KeyedImage,
    KeyedText,
    Part,
    as_list,
    batch_of,
    check_some,
    check_stream,
    key_of,
    parts,
)
from tuwen._responses import ItemOutcome, Parsed, TextTruncatedWarning, assemble, outcomes, recalled
from tuwen._routes import Kind, Preprocess, Priority
from tuwen._transport import Transport
from tuwen.progress import progress_bar
from tuwen.statistics import Building, Profile, Statistics, difference, profile_of
from tuwen.zero_shot import (
    Classification,
    Similarity,
    Templates,
    check_labels,
    label_embeddings,
    label_texts,
    similarity,
    template_texts,
)

__all__ = ["Client"]

_STATISTICS_READS = 20  # a server counts a request shortly after it has answered it


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
        with self._call("embed"):
            return self._embed("image", images, self._deadline(timeout))

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
        with self._call("embed"):
            return self._embed("text", texts, self._deadline(timeout))

    def try_embed_images(self, images: Iterable[ImageInput], *, timeout: float | None = None) -> list[ItemOutcome]:
        """Embed images, and get an outcome for each instead of an error for all.

        Returns:
            one `ItemOutcome` an image, in their order; ``ok`` tells those with an embedding.

        Raises:
            InvalidArgumentError, ServerError: as `embed_images`.
        """
        with self._call("attempt"):
            return self._attempt("image", images, self._deadline(timeout))

    def try_embed_texts(self, texts: Iterable[str], *, timeout: float | None = None) -> list[ItemOutcome]:
        """Embed texts, and get an outcome for each; as `try_embed_images`. ``truncated`` tells those that were cut."""
        with self._call("attempt"):
            return self._attempt("text", texts, self._deadline(timeout))

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
        with self._call("compare"):
            deadline = self._deadline(timeout)
            images, texts = check_some("similarity", "image", images), check_some("similarity", "text", texts)
            image_embeddings = self._embed("image", images, deadline)
            text_embeddings = self._embed("text", texts, deadline)
            card = self._known_card(deadline)
            return similarity(image_embeddings, text_embeddings, card.logit_scale)

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
        with self._call("classify"):
            deadline = self._deadline(timeout)
            checked, texts = check_labels(labels), template_texts(templates)
            images = check_some("classify", "image", images)
            known = self._labels.known(checked, texts)
            if missing := [label for label in checked if label not in known]:
                vectors = self._embed("text", label_texts(missing, texts), deadline)
                found = dict(zip(missing, label_embeddings(vectors, len(texts)), strict=True))
                self._labels.remember(found, texts)
                known |= found
            image_embeddings = self._embed("image", images, deadline)
            card = self._known_card(deadline)
            label_vectors = np.stack([known[label] for label in checked])
            return Classification(checked, similarity(image_embeddings, label_vectors, card.logit_scale))

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
        with self._call("read_card"):
            return self._known_card(self._deadline(timeout))

    def statistics(self, *, timeout: float | None = None) -> Statistics:
        """What the server has counted, model by model: requests, failures, batch sizes, times.

        Raises:
            ServerError: the server, or the way to it, failed.
        """
        with self._call("read_statistics"):
            return self._pipeline(self._deadline(timeout)).ask(self._transport.statistics)

    def profile(
        self, *, images: Iterable[ImageInput] = (), texts: Iterable[str] = (), timeout: float | None = None
    ) -> Profile:
        """Embed these, one request after the other, and tell where the time went.

        Raises:
            InvalidArgumentError: neither images nor texts.
            InvalidItemsError, ServerError: as `embed_images` and `embed_texts`.
        """
        with self._call("profile"):
            deadline = self._deadline(timeout)
            kinds: list[tuple[Kind, list[Any]]] = [
                ("image", as_list("image", images)),
                ("text", as_list("text", texts)),
            ]
            count = sum(len(items) for _, items in kinds)
            if not count:
                raise InvalidArgumentError("profile needs images or texts")
            card, pipeline = self._known_card(deadline), self._pipeline(deadline)
            before, start = pipeline.ask(self._transport.statistics), time.perf_counter()
            waiting, sent = 0.0, Counter[str]()
            for kind, items in kinds:
                route = self._routes.to(kind, card, deadline=deadline)
                building, asked = Building(route), time.perf_counter()
                wanted = parts(kind, items, call_pace(kind, card).size)
                feed = Feed(wanted, building.batch_of, threads=self._routes.readers if route.reads(items) else None)
                with closing(pipeline.answers(feed, card)) as answers:
                    found = [parsed for _, parsed in answers]
                waiting += time.perf_counter() - asked - building.seconds
                assemble(kind, len(items), card.embedding_dimension, found)
                sent += building.requests
            total = time.perf_counter() - start
            for _ in range(_STATISTICS_READS):
                counted = difference(pipeline.ask(self._transport.statistics), before)
                if all(model in counted and counted[model].requests >= number for model, number in sent.items()):
                    break
            return profile_of(count, sent, total, waiting, counted)

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

    def _embed(self, kind: Kind, items: object, deadline: Deadline) -> NDArray[np.float32]:
        """Return unit vectors, float32 (n, D). Those of known texts come from the cache."""
        listed = as_list(kind, items)
        card = self._known_card(deadline)
        found = self._parsed(kind, listed, card, deadline)
        embeddings, truncated = assemble(kind, len(listed), card.embedding_dimension, found)
        if truncated:
            shown = ", ".join(map(str, truncated[:10])) + (", ..." if len(truncated) > 10 else "")
            message = f"{len(truncated)} of {len(listed)} texts were cut to the model's context length: {shown}"
            warnings.warn(message, TextTruncatedWarning, stacklevel=3)  # at the line that called the public method
        return embeddings

    def _attempt(self, kind: Kind, items: object, deadline: Deadline) -> list[ItemOutcome]:
        """Return an outcome for each item, in order."""
        listed = as_list(kind, items)
        found = self._parsed(kind, listed, self._known_card(deadline), deadline)
        by_index = {
            outcome.index: outcome
            for parsed in found
            for outcome in outcomes(((index, key_of(listed[index], index)) for index in parsed.items), parsed)
        }
        return [by_index[index] for index in range(len(listed))]

    def _parsed(self, kind: Kind, items: list[Any], card: ModelCard, deadline: Deadline) -> list[Parsed]:
        """Return the embedding or the failure of every item of a call. Texts that the client remembers are not sent."""
        known = self._texts.known(items) if kind == "text" else {}
        route, pace = self._routes.to(kind, card, deadline=deadline), call_pace(kind, card)
        wanted = parts(kind, items, pace.size, known)
        threads = self._routes.readers if route.reads(items) else None
        feed = Feed(wanted, partial(batch_of, route), threads=threads)
        pipeline = self._pipeline(deadline)
        with closing(pipeline.answers(feed, card, pace=pace if len(wanted) > 1 else None)) as answers:
            found = [parsed for _, parsed in answers]
        if kind == "text":
            self._texts.remember(items, found)
        return [*found, recalled(items, known)] if known else found

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
        limit, check = card.max_batch_size, self._routes.check
        chunker = Chunker(kind, window=window, max_batch_size=limit, skip=skip, check=check)
        pipeline = Pipeline(self._transport, RetryBudget(self._patience), lambda: self._deadline(timeout))

        def build(part: Part) -> EmbeddingBatch:
            return batch_of(self._routes.to(kind, card, deadline=self._deadline(timeout), bulk=True), part)

        threads = self._routes.readers if kind == "image" else None
        feed = Feed(items, build, chunker=chunker, threads=threads)
        with forks.call(), progress_bar(items, shown=progress) as bar:
            with closing(pipeline.answers(feed, card, pace=chunker.pace, patient=True)) as answers:
                for part, parsed in answers:
                    keys = ((index, key) for (index,), key in zip(part.positions, part.keys, strict=True))
                    for outcome in outcomes(keys, parsed):
                        bar.update()
                        yield outcome

    def _known_card(self, deadline: Deadline) -> ModelCard:
        """Return the card, which is read once."""
        return self._card or self._accept(self._pipeline(deadline).ask(self._transport.model_card))

    def _pipeline(self, deadline: Deadline) -> Pipeline:
        return Pipeline(self._transport, self._retry_budget, lambda: deadline)

"""The routes from items to models: the bytes to send for an image or a text, and the model that receives them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from tuwen._errors import ClientClosedError, InvalidArgumentError
from tuwen._fetching import HttpFetcher
from tuwen._images import check_image, encoded_bytes, is_web_url, pixel_values
from tuwen._transport import ModelCard
from tuwen.clock import Deadline
from tuwen.failures import ItemError
from tuwen.model_names import check_name, full_name
from tuwen.pixels import ImageLimits, Preprocessor

__all__ = ["Kind", "Payload", "Preprocess", "Priority", "Route", "Routes", "Threads"]

Kind = Literal["image", "text"]
Preprocess = Literal["server", "client"]
Priority = Literal["interactive", "bulk"]
Payload: TypeAlias = bytes | ItemError | InvalidArgumentError
"""The bytes to send for an item, or the error of an item that cannot be sent."""

_OUTPUTS: Mapping[Kind, tuple[str, ...]] = {
    "image": ("embedding", "status", "fingerprint"),
    "text": ("embedding", "status", "fingerprint", "truncated"),
}
Argument = TypeVar("Argument")
Result = TypeVar("Result")
_THREADS = 8
_READERS = 32  # many, because most of them wait for a file or a web address


@dataclass(frozen=True)
class Route:
    """The route of one kind of items to a Triton model: the model, and the conversion of items to bytes.

    Attributes:
        kind: the kind of the items, ``image`` or ``text``.
        model: the name of the Triton model that is called.
        input_name: the name of the model's only input.
        item_shape: the shape of an item, a uint8 tensor; empty: an item is a string of bytes.
        outputs: the names of the outputs that are requested; empty: all outputs of the model.
        to_payload: a function that returns the bytes to send for an item, or raises an `ItemError`.
        pool: the threads that call `to_payload` for several items at once; None: the items are converted one by one.
        bulk: whether the requests have the priority ``bulk``: the server handles them only when no other request waits.
        fetched: a function that replaces each web address in a list of items by the image's bytes or an `ItemError`.
    """

    kind: Kind
    model: str
    input_name: str
    outputs: tuple[str, ...]
    to_payload: Callable[[Any], bytes]
    item_shape: tuple[int, ...] = ()
    pool: ThreadPoolExecutor | None = None
    bulk: bool = False
    fetched: Callable[[Sequence[Any]], Sequence[Any]] = lambda items: items

    def reads(self, items: Iterable[Any]) -> bool:
        """Return whether `payloads` reads files or computes for long when it gets these items."""
        return self.pool is not None or (self.kind == "image" and not all(isinstance(item, bytes) for item in items))

    def payloads(self, items: Sequence[Any]) -> list[Payload]:
        """Return the bytes to send for each item, or its error.

        The method reads files. It fetches web addresses and decodes images if the client's settings require this.

        Raises:
            ClientClosedError: the client was closed meanwhile.
        """
        items = self.fetched(items)
        if self.pool is None or len(items) == 1:
            return [self._payload(item) for item in items]
        try:
            return list(self.pool.map(self._payload, items))
        except (CancelledError, RuntimeError) as error:  # `Threads.close` ended the pool meanwhile
            raise ClientClosedError from error

    def _payload(self, item: Any) -> Payload:
        if isinstance(item, ItemError):
            return item
        try:
            return self.to_payload(item)
        except (ItemError, InvalidArgumentError) as error:
            return error


class Threads:
    """A pool of threads, made at its first use. Pillow releases the interpreter lock, so processes are not needed.

    Args:
        count: the maximum number of threads.
        name: the prefix of the threads' names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self._closed = False

    def pool(self) -> ThreadPoolExecutor:
        """Return the pool of this process. A forked process gets its own pool.

        Raises:
            ClientClosedError: `close` was called.
        """
        with self._lock:
            if self._closed:
                raise ClientClosedError
            if self._pool is None or self._process != os.getpid():  # threads do not survive a fork
                self._pool = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)
                self._process = os.getpid()
            return self._pool

    async def run(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """Call a function in a thread, without blocking the event loop.

        Raises:
            ClientClosedError: `close` was called, before this call or while it waited for a thread.
        """
        work = asyncio.get_running_loop().run_in_executor(self.pool(), function, argument)
        try:
            return await work
        except asyncio.CancelledError:
            if self._closed and work.cancelled():  # cancelling the caller's task cancels this future as well
                raise ClientClosedError from None
            raise

    def close(self) -> None:
        """End the pool, and cancel calls that wait for a thread."""
        with self._lock:
            self._closed = True
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None


@dataclass(frozen=True)
class Routes:
    """The routes that follow from a client's settings.

    Attributes:
        preprocess: the side that converts images to pixel values, ``server`` or ``client``. A client that converts
            images sends pixel values to the vision encoder.
        fetcher: the fetcher of images at web addresses; None: web addresses are refused.
        priority: the priority of the requests, ``interactive`` or ``bulk``. The server handles a request of priority
            ``bulk`` only when no other request waits.
        model: the name of the model, if the server has several models; empty: the model without a name.
        readers: the threads that make requests for an event loop, so that slow files and hosts do not block the
            application's own threads.
    """

    preprocess: Preprocess = "server"
    fetcher: HttpFetcher | None = None
    priority: Priority = "interactive"
    model: str = ""
    readers: Threads = field(default_factory=lambda: Threads(_READERS, "tuwen-requests"))
    _threads: Threads = field(default_factory=lambda: Threads(_THREADS, "tuwen-images"))

    def __post_init__(self) -> None:
        if self.preprocess not in ("server", "client"):
            raise InvalidArgumentError(f"preprocess: expected 'server' or 'client', got {self.preprocess!r}")
        if self.priority not in ("interactive", "bulk"):
            raise InvalidArgumentError(f"priority: expected 'interactive' or 'bulk', got {self.priority!r}")
        check_name(self.model)

    def check(self, kind: Kind, item: object) -> None:
        """Reject an item by its type, without reading a file.

        Raises:
            InvalidArgumentError: the type of the item cannot be embedded.
        """
        if kind == "text":
            _check_text(item)
        else:
            check_image(item, is_fetched=self.fetcher is not None)

    def to(self, kind: Kind, card: ModelCard, *, deadline: Deadline | None = None, bulk: bool = False) -> Route:
        """Return the route of this kind of items to a server with this model card.

        Args:
            kind: the kind of the items, ``image`` or ``text``.
            card: the model card of the server.
            deadline: the deadline of fetches; None: only the timeout of the fetcher limits them.
            bulk: whether to use the priority ``bulk`` whatever the client's priority is.
        """
        bulk = bulk or self.priority == "bulk"
        if kind == "text":
            return Route(kind, full_name(self.model, "text_embedding"), kind, _OUTPUTS[kind], _utf8, bulk=bulk)

        def fetched(images: Sequence[Any]) -> Sequence[Any]:
            return self._fetched(images, deadline)

        limits = ImageLimits(max_bytes=card.max_image_bytes)
        preprocessor = Preprocessor(**card.pixel_rules(), limits=limits)
        if self.preprocess == "server":

            def encoded(image: Any) -> bytes:
                return encoded_bytes(image, preprocessor)

            pool = self._threads.pool() if self.fetcher else None
            model = full_name(self.model, "image_embedding")
            return Route(kind, model, kind, _OUTPUTS[kind], encoded, pool=pool, bulk=bulk, fetched=fetched)

        def pixels(image: Any) -> bytes:
            return pixel_values(image, preprocessor)

        shape = (3, card.image_size, card.image_size)
        # The output's name contains the fingerprint of the server's model, so the request cannot state this name.
        pool = self._threads.pool()
        model = full_name(self.model, "pixel_embedding")
        return Route(kind, model, "pixel_values", (), pixels, shape, pool, bulk, fetched)

    def close(self) -> None:
        """End the threads."""
        self._threads.close()
        self.readers.close()

    def _fetched(self, images: Sequence[Any], deadline: Deadline | None) -> Sequence[Any]:
        """Return the images. Each web address is replaced by the bytes of the image or by an `ItemError`."""
        if self.fetcher is None:
            return images
        urls = list(dict.fromkeys(image for image in images if isinstance(image, str) and is_web_url(image)))
        if not urls:
            return images
        left = deadline.left() if deadline else None
        found = dict(zip(urls, self.fetcher.fetch_all(urls, left), strict=True))
        return [found.get(image, image) if isinstance(image, str) else image for image in images]


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidArgumentError(f"expected a text as str, got {type(text).__name__}")


def _utf8(text: str) -> bytes:
    _check_text(text)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ItemError("not_utf8", f"the text has half a surrogate pair at position {error.start}") from error

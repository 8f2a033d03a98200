"""The interface between the SDK and the network: requests, responses, and the protocol of transports and fakes."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tuwen import clock
from tuwen._errors import ForkError, InferenceError
from tuwen.pixels import ImageLimits, PixelRules
from tuwen.statistics import Statistics

__all__ = [
    "AsyncPendingResponse",
    "AsyncTransport",
    "Forks",
    "InferRequest",
    "InferResponse",
    "ModelCard",
    "PendingResponse",
    "Tensor",
    "Transport",
    "forks",
]


Tensor: TypeAlias = "NDArray[np.float32] | NDArray[np.bool_] | tuple[bytes, ...]"


@dataclass(frozen=True)
class InferRequest:
    """One request to one model.

    Attributes:
        items: the values of the model's only input.
        outputs: the names of the outputs that are requested; empty: all outputs of the model.
        item_shape: the shape of each item, a uint8 tensor; empty: the items are strings, a TYPE_STRING tensor (n, 1).
        bulk: whether requests that are not ``bulk`` are handled first.
        request_id: an ID for the server's log and for errors.
    """

    model: str
    input_name: str
    items: tuple[bytes, ...]
    outputs: tuple[str, ...]
    item_shape: tuple[int, ...] = ()
    bulk: bool = False
    request_id: str = field(default_factory=lambda: os.urandom(8).hex())


@dataclass(frozen=True)
class InferResponse:
    """The outputs by name. A TYPE_STRING output is a tuple of bytes; other outputs are arrays (n, ...)."""

    outputs: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ModelCard(PixelRules):
    """The description of a server's model, which ``tuwen build`` wrote into the repository, with the image rules.

    Attributes:
        family: ``chinese-clip``, ``openai-clip`` or ``taiyi-clip``.
        checkpoint: the hub ID, folder or file that the repository was built from.
        fingerprint: the name of the embedding space. Only vectors of the same space may be compared.
        embedding_dimension: D, the length of a vector.
        context_length: the maximum number of tokens per text, special tokens included; longer texts are cut.
        logit_scale: the factor between a cosine and a logit.
        precision: the precision of the encoders: ``fp32``, ``bf16``, ``fp16`` or ``int8``. Vectors are float32.
        max_batch_size: the maximum number of items per request; the SDK splits larger calls.
        max_image_bytes: the maximum size of an encoded image. The SDK refuses a larger file without reading it.
        name: the name of the repository on a server with several, from ``tuwen build --name``; empty without a name.
            For an alias, the name of the repository that the alias stands for.
    """

    family: str
    checkpoint: str
    fingerprint: str
    embedding_dimension: int
    context_length: int
    logit_scale: float
    precision: str
    max_batch_size: int
    max_image_bytes: int = ImageLimits.max_bytes
    name: str = ""

    def to_parameters(self) -> dict[str, str]:
        """Return the card as the ``parameters`` of an ensemble's config. A repository without a name states none.

        The limits are not included: the batch size has its own field in the config, and the maximum size of an image is
        a parameter of ``image_preprocessing``.
        """
        limits = ("max_batch_size", "max_image_bytes")
        values = {name: value for name, value in asdict(self).items() if name not in limits}
        if not self.name:
            del values["name"]
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}

    @classmethod
    def from_parameters(
        cls, parameters: Mapping[str, str], max_batch_size: int, max_image_bytes: int = ImageLimits.max_bytes
    ) -> ModelCard:
        """Read the card from the ``parameters`` of an ensemble's config.

        If an older version built the repository, a missing rule has its default value.

        Raises:
            InferenceError: the repository has no card, or the card's logit scale is not finite.
        """
        convert: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float, "bool": "true".__eq__}
        values: dict[str, Any] = {"max_batch_size": max_batch_size, "max_image_bytes": max_image_bytes}
        try:
            for field in fields(cls):
                if field.name in parameters or (field.default is MISSING and field.name not in values):
                    values[field.name] = convert[str(field.type)](parameters[field.name])
            if not math.isfinite(float(values["logit_scale"])):
                raise ValueError(f"logit_scale is {values['logit_scale']}")
        except (KeyError, ValueError) as error:
            raise InferenceError(
                f"the server's model card is missing or broken ({error}); was its repository made by `tuwen build`?"
            ) from error
        return cls(**values)


class PendingResponse(Protocol):
    """A response that may not have arrived yet."""

    def result(self) -> InferResponse:
        """Wait for the response and return it.

        Raises:
            ServerError: the subclass that fits the status of the server or of the connection.
        """

    def seconds(self) -> float:
        """Return the seconds between sending the request and the arrival of the response. Call `result` first."""

    def cancel(self) -> None:
        """Cancel the request. Does nothing if the response has arrived."""


class Transport(Protocol):
    """A connection to a server, which many threads may use at once."""

    def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """Send a request and wait for its response. Half of `timeout`, in seconds, is the limit of the wait in a queue.

        Raises:
            ServerError: the subclass that fits the status of the server or of the connection.
        """

    def send(self, request: InferRequest, timeout: float) -> PendingResponse:
        """Send a request and return its pending response."""

    def model_card(self, timeout: float, model: str = "") -> ModelCard:
        """Request the card of the model with this name; empty: the card of the model without a name.

        Raises:
            ServerError: as for a response.
        """

    def statistics(self, timeout: float) -> Statistics:
        """Request the statistics of the server.

        Raises:
            ServerError: as for a response.
        """

    def is_ready(self, timeout: float, model: str = "") -> bool:
        """Return whether the server responds and the model with this name is loaded; empty: whether all are loaded."""

    def close(self) -> None:
        """Close the connection. Pending responses fail."""


class AsyncPendingResponse:
    """A pending response with its own task.

    Args:
        response: an awaitable that waits for the response, such as the coroutine of `AsyncTransport.infer`. It starts
            at the next turn of the event loop.
    """

    def __init__(self, response: Coroutine[Any, Any, InferResponse]) -> None:
        self._sent = self._arrived = clock.now()
        self._task = asyncio.create_task(response)
        self._task.add_done_callback(self._arrive)

    async def result(self) -> InferResponse:
        """See `PendingResponse.result`. Cancelling the task that waits here cancels the request."""
        return await self._task

    def seconds(self) -> float:
        """See `PendingResponse.seconds`."""
        return self._arrived - self._sent

    def done(self) -> bool:
        """Return whether the response has arrived, or the request has failed or was cancelled."""
        return self._task.done()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call a function soon after `done` becomes true."""
        self._task.add_done_callback(lambda _: callback())

    def cancel(self) -> None:
        """See `PendingResponse.cancel`."""
        self._task.cancel()

    async def ended(self) -> None:
        """Wait until `done` is true. Errors of the request are not raised."""
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # nobody may ask for it any more

    def _arrive(self, _: asyncio.Task[InferResponse]) -> None:
        self._arrived = clock.now()


class AsyncTransport(Protocol):
    """A connection to a server for the tasks of one event loop. Cancelling a task cancels its requests."""

    async def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """See `Transport.infer`."""

    def send(self, request: InferRequest, timeout: float) -> AsyncPendingResponse:
        """See `Transport.send`."""

    async def model_card(self, timeout: float, model: str = "") -> ModelCard:
        """See `Transport.model_card`."""

    async def statistics(self, timeout: float) -> Statistics:
        """See `Transport.statistics`."""

    async def is_ready(self, timeout: float, model: str = "") -> bool:
        """See `Transport.is_ready`."""

    async def close(self) -> None:
        """See `Transport.close`."""


class Forks:
    """The calls of this process, and whether it was forked while its parent had calls in flight.

    gRPC survives a fork only when no other thread uses it at that moment; otherwise the child can hang.

    Attributes:
        broken: whether this process was forked while calls were in flight.
    """

    def __init__(self) -> None:
        self.broken = False
        # A set, because adding and discarding are atomic: a lock could itself be held at the moment of a fork.
        self._calls: set[object] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_child)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Count a call, or a stream, as in flight while the block lasts.

        Raises:
            ForkError: as `check`.
        """
        self.check()
        call = object()
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)

    def check(self) -> None:
        """Raise an error if a call could hang.

        Raises:
            ForkError: this process was forked while calls were in flight.
        """
        if self.broken:
            raise ForkError(
                f"process {os.getpid()} was forked while its parent had calls in flight, and gRPC can hang after that; "
                "fork before the first call or between calls, or start processes with multiprocessing's 'spawn' or "
                "'forkserver' method"
            )

    def _begin_child(self) -> None:
        self.broken = self.broken or bool(self._calls)
        self._calls.clear()


forks = Forks()
"""The calls of this process."""

"""The interface between the SDK and the network: requests, responses, and the protocol of real and fake transports."""

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
        item_shape: the shape of each item, which is a uint8 tensor; empty: each item is a string (TYPE_STRING).
        bulk: whether the request has the priority ``bulk``: the server handles it only when no other request waits.
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
    """The response to one request.

    Attributes:
        outputs: the outputs by name. A TYPE_STRING output is a tuple of bytes; other outputs are arrays (n, ...).
    """

    outputs: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ModelCard(PixelRules):
    """The description of a server's model, including its image rules. ``tuwen build`` wrote it into the repository.

    Attributes:
        family: the model family: ``chinese-clip``, ``openai-clip`` or ``taiyi-clip``.
        checkpoint: the hub ID, folder or file that the repository was built from.
        fingerprint: the name of the embedding space. Only vectors of the same space may be compared.
        embedding_dimension: the number D of components of a vector.
        context_length: the maximum number of tokens per text, special tokens included; longer texts are cut.
        logit_scale: the factor between a cosine and a logit.
        precision: the precision of the encoders: ``fp32``, ``bf16``, ``fp16`` or ``int8``. Vectors are float32.
        max_batch_size: the maximum number of items per request; the SDK splits larger calls.
        max_image_bytes: the maximum size of an encoded image in bytes. The SDK refuses a larger file without reading
            it.
        name: the name of the repository, from ``tuwen build --name``; empty: the repository has no name.
            The card of an alias states the name of the repository behind the alias.
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
        """Return the card as the ``parameters`` of an ensemble's config.

        The limits are left out: the config has its own field for the batch size, and the maximum size of an image is a
        parameter of ``image_preprocessing``. An empty name is left out, too.
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

        An older version of tuwen may have left out image rules. A missing rule gets its default value.

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
                raise ValueError(f"logit_scale: expected a finite number, got {values['logit_scale']}")
        except (KeyError, ValueError) as error:
            raise InferenceError(
                f"the server's model card is missing or broken ({error}); serve a repository that `tuwen build` made"
            ) from error
        return cls(**values)


class PendingResponse(Protocol):
    """A response that may not have arrived yet."""

    def result(self) -> InferResponse:
        """Wait for the response and return it.

        Raises:
            ServerError: the request failed. The subclass states the kind of the failure.
        """

    def seconds(self) -> float:
        """Return the seconds between sending the request and the arrival of the response. Call `result` first."""

    def cancel(self) -> None:
        """Cancel the request. If the response has arrived, do nothing."""


class Transport(Protocol):
    """A connection to a server, which many threads may use at once."""

    def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """Send a request, wait for its response and return it.

        Args:
            request: the request.
            timeout: the seconds until the call fails. The request may wait in the server's queues for half of this
                time.

        Raises:
            ServerError: the request failed. The subclass states the kind of the failure.
        """

    def send(self, request: InferRequest, timeout: float) -> PendingResponse:
        """Send a request and return its pending response.

        Args:
            request: the request.
            timeout: the seconds until the response fails. The request may wait in the server's queues for half of this
                time.
        """

    def model_card(self, timeout: float, model: str = "") -> ModelCard:
        """Return the card of a model on the server.

        Args:
            timeout: the seconds until the call fails.
            model: the name of the model; empty: the model without a name.

        Raises:
            ServerError: the request failed. The subclass states the kind of the failure.
        """

    def statistics(self, timeout: float) -> Statistics:
        """Return the server's statistics by model.

        Args:
            timeout: the seconds until the call fails.

        Raises:
            ServerError: the request failed. The subclass states the kind of the failure.
        """

    def is_ready(self, timeout: float, model: str = "") -> bool:
        """Return whether the server responds and has loaded a model.

        Args:
            timeout: the seconds after which the result is false.
            model: the name of the model; empty: all models of the server must be loaded.
        """

    def close(self) -> None:
        """Close the connection. Pending responses fail."""


class AsyncPendingResponse:
    """A pending response that is awaited in a task of its own.

    Args:
        response: the coroutine that returns the response, such as that of `AsyncTransport.infer`. It starts at the next
            turn of the event loop.
    """

    def __init__(self, response: Coroutine[Any, Any, InferResponse]) -> None:
        self._sent = self._arrived = clock.now()
        self._task = asyncio.create_task(response)
        self._task.add_done_callback(self._arrive)

    async def result(self) -> InferResponse:
        """Wait for the response and return it. Cancelling the task that waits here cancels the request.

        Raises:
            ServerError: the request failed. The subclass states the kind of the failure.
        """
        return await self._task

    def seconds(self) -> float:
        """Return the seconds between sending the request and the arrival of the response. Await `result` first."""
        return self._arrived - self._sent

    def done(self) -> bool:
        """Return whether the response has arrived, or the request has failed or was cancelled."""
        return self._task.done()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call a function soon after `done` becomes true."""
        self._task.add_done_callback(lambda _: callback())

    def cancel(self) -> None:
        """Cancel the request. If the response has arrived, do nothing."""
        self._task.cancel()

    async def ended(self) -> None:
        """Wait until `done` is true. Errors of the request are not raised."""
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # marks the error as retrieved, so that asyncio does not log it

    def _arrive(self, _: asyncio.Task[InferResponse]) -> None:
        self._arrived = clock.now()


class AsyncTransport(Protocol):
    """A connection to a server for the tasks of one event loop. Cancelling a task cancels its requests."""

    async def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """Send a request, wait for its response and return it, as `Transport.infer` describes."""

    def send(self, request: InferRequest, timeout: float) -> AsyncPendingResponse:
        """Send a request and return its pending response, as `Transport.send` describes."""

    async def model_card(self, timeout: float, model: str = "") -> ModelCard:
        """Return the card of a model on the server, as `Transport.model_card` describes."""

    async def statistics(self, timeout: float) -> Statistics:
        """Return the server's statistics by model, as `Transport.statistics` describes."""

    async def is_ready(self, timeout: float, model: str = "") -> bool:
        """Return whether the server responds and has loaded a model, as `Transport.is_ready` describes."""

    async def close(self) -> None:
        """Close the connection. Pending responses fail."""


class Forks:
    """The calls in flight of this process, and the check that no fork interrupted them.

    If a thread uses gRPC at the moment of a fork, gRPC can hang in the child process.

    Attributes:
        broken: whether this process was forked while its parent had calls in flight.
    """

    def __init__(self) -> None:
        self.broken = False
        # A set needs no lock, because adding and discarding are atomic. A lock could be held at the moment of a fork.
        self._calls: set[object] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_child)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Provide a context in which a call or stream counts as in flight.

        Raises:
            ForkError: this process was forked while its parent had calls in flight.
        """
        self.check()
        call = object()
        self._calls.add(call)
        try:
            yield
        finally:
            self._calls.discard(call)

    def check(self) -> None:
        """Check that a call cannot hang because of a fork.

        Raises:
            ForkError: this process was forked while its parent had calls in flight.
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
"""The calls in flight of this process."""

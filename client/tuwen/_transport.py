"""The seam between the SDK and the network: what passes through it, and the ways through it, fakes included."""

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
        items: the values of its one input.
        outputs: the names of the outputs that are requested; empty: all outputs of the model.
        item_shape: of each item, a uint8 tensor; empty: the items are strings, a TYPE_STRING tensor (n, 1).
        bulk: lets requests that are not go before it.
        request_id: shows in the server's log and in errors.
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
    """The outputs by name; TYPE_STRING ones as a tuple of bytes, the others as arrays (n, ...)."""

    outputs: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ModelCard(PixelRules):
    """The model behind a server, as ``tuwen build`` wrote it into the repository, with the rules for its images.

    Attributes:
        family: ``chinese-clip``, ``openai-clip`` or ``taiyi-clip``.
        checkpoint: the hub id, folder or file that it was built from.
        fingerprint: the name of the embedding space: only vectors with the same one may be compared.
        embedding_dimension: D, the length of a vector.
        context_length: the maximum number of tokens per text, special tokens included; longer texts are cut.
        logit_scale: what a cosine is multiplied with to become a logit.
        precision: of the encoders' arithmetic (``fp32``, ``bf16``, ``fp16`` or ``int8``); vectors are float32.
        max_batch_size: the maximum number of items per request; the SDK splits larger calls.
        max_image_bytes: the maximum size of an encoded image. The SDK refuses a larger file without reading it.
        name: the name of the repository on a server with several, from ``tuwen build --name``; empty if it has none.
            Behind an alias, the repository that the alias stands for.
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

        The limits are not among them: the batch size has a field of its own in the config, and the size of an image is
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

        A rule that the repository's version did not know has its default.

        Raises:
            InferenceError: the repository carries no card, or a card whose logit scale is not finite.
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
    """A response on its way."""

    def result(self) -> InferResponse:
        """Wait for it.

        Raises:
            ServerError: the kind that the status of the server or of the connection stands for.
        """

    def seconds(self) -> float:
        """Return how long the response took to arrive, counted from sending the request; to be asked after `result`."""

    def cancel(self) -> None:
        """Give up on it; harmless when it has arrived."""


class Transport(Protocol):
    """A way to a server; safe to use from many threads."""

    def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """Send a request and wait for its response. `timeout` in seconds; half of it bounds the wait in a queue.

        Raises:
            ServerError: the kind that the status of the server or of the connection stands for.
        """

    def send(self, request: InferRequest, timeout: float) -> PendingResponse:
        """Return the same without waiting for the response."""

    def model_card(self, timeout: float, model: str = "") -> ModelCard:
        """Ask the server for the card of a model, by its name; empty: of the model that has no name.

        Raises:
            ServerError: as for a response.
        """

    def statistics(self, timeout: float) -> Statistics:
        """Ask the server what it has counted.

        Raises:
            ServerError: as for a response.
        """

    def is_ready(self, timeout: float, model: str = "") -> bool:
        """Return whether the server answers, and the model with this name is loaded; empty: all models are loaded."""

    def close(self) -> None:
        """Close the connection; what is pending fails."""


class AsyncPendingResponse:
    """A response on its way to a task of its own.

    Args:
        response: what waits for it, such as the coroutine of `AsyncTransport.infer`; begins at the next turn of the
            event loop.
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
        """Call a function, soon after `done` has become true."""
        self._task.add_done_callback(lambda _: callback())

    def cancel(self) -> None:
        """See `PendingResponse.cancel`."""
        self._task.cancel()

    async def ended(self) -> None:
        """Wait until `done` is true; raises no error of the request."""
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # nobody may ask for it any more

    def _arrive(self, _: asyncio.Task[InferResponse]) -> None:
        self._arrived = clock.now()


class AsyncTransport(Protocol):
    """A way to a server for the tasks of one event loop. Cancelling a task cancels what it waits for."""

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
        """Refuse calls that could hang.

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
"""Those of this process."""

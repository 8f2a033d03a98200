"""The seam between the SDK and the network, once for threads and once for asyncio; fakes fit it too."""

from __future__ import annotations

from typing import Protocol

from tuwen._card import ModelCard
from tuwen._requests import InferRequest, InferResponse
from tuwen.statistics import Statistics

__all__ = ["AsyncTransport", "PendingResponse", "Transport"]


class PendingResponse(Protocol):
    """A response on its way."""

    def result(self) -> InferResponse:
        """Wait for it.

        Raises:
            ServerError: the kind that the status of the server or of the connection stands for.
        """

    def seconds(self) -> float:
        """How long the response took to arrive, counted from sending the request; to be asked after `result`."""

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
        """The same without waiting for the response."""

    def model_card(self, timeout: float) -> ModelCard:
        """Ask the server what it serves.

        Raises:
            ServerError: as for a response.
        """

    def statistics(self, timeout: float) -> Statistics:
        """Ask the server what it has counted.

        Raises:
            ServerError: as for a response.
        """

    def is_ready(self, timeout: float) -> bool:
        """Whether the server answers and all its models are loaded."""

    def close(self) -> None:
        """Close the connection; what is pending fails."""


class AsyncTransport(Protocol):
    """A way to a server for the tasks of one event loop. Cancelling a task cancels what it waits for."""

    async def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """As `Transport.infer`."""

    async def model_card(self, timeout: float) -> ModelCard:
        """As `Transport.model_card`."""

    async def statistics(self, timeout: float) -> Statistics:
        """As `Transport.statistics`."""

    async def is_ready(self, timeout: float) -> bool:
        """As `Transport.is_ready`."""

    async def close(self) -> None:
        """As `Transport.close`."""

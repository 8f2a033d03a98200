"""The transport of the asynchronous client: the same messages as `tuwen._grpc`, over grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tuwen import _clock
from tuwen._calls import NoTracing, Tracing
from tuwen._card import ModelCard
from tuwen._connection import AsyncHeaders, Metadata, Tls, channel_options, channel_target, checked_headers
from tuwen._errors import ClientClosedError, DeadlineExceededError, EventLoopError
from tuwen._grpc import (
    CARD_MODEL,
    LIMITS_MODEL,
    card_of,
    decode_response,
    encode_request,
    server_error,
    statistics_of,
)
from tuwen._requests import InferRequest, InferResponse
from tuwen._transport import AsyncPendingResponse
from tuwen.statistics import Statistics

__all__ = ["AsyncGrpcTransport"]

_LATE_HEADERS = "the function of the headers did not answer within the timeout of the call"


class AsyncGrpcTransport:
    """One channel to ``host:port``, opened by the first call, in whose event loop it lives.

    Calls from another event loop raise `EventLoopError`.

    Raises:
        InvalidArgumentError: `url` is not ``host:port`` or a gRPC target such as ``dns:///host:port``; a file of
            `tls` cannot be read; a header is invalid.
    """

    def __init__(
        self, url: str, *, tls: Tls | None = None, headers: AsyncHeaders | None = None, tracing: Tracing | None = None
    ) -> None:
        self._target = channel_target(url)
        self._headers = headers or {}
        self._tracing = tracing or NoTracing()
        if not callable(self._headers):
            checked_headers(self._headers)
        self._credentials = tls and tls.credentials()
        self._options = channel_options(self._target, tls)
        self._channel: Any = None
        self._opened_stub: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """See `AsyncTransport.infer`."""
        try:
            message = encode_request(request, timeout)
            return decode_response(await self._call("ModelInfer", message, timeout))
        except grpc.RpcError as error:
            raise server_error(error, request.model, request.request_id) from error

    def send(self, request: InferRequest, timeout: float) -> AsyncPendingResponse:
        """See `AsyncTransport.send`."""
        return AsyncPendingResponse(self.infer(request, timeout))

    async def model_card(self, timeout: float) -> ModelCard:
        """See `AsyncTransport.model_card`."""
        end = _clock.now() + timeout
        card = await self._config(CARD_MODEL, timeout)
        return card_of(card, await self._config(LIMITS_MODEL, end - _clock.now()))

    async def statistics(self, timeout: float) -> Statistics:
        """See `AsyncTransport.statistics`."""
        try:
            query = service_pb2.ModelStatisticsRequest()
            return statistics_of(await self._call("ModelStatistics", query, timeout))
        except grpc.RpcError as error:
            raise server_error(error) from error

    async def is_ready(self, timeout: float) -> bool:
        """See `AsyncTransport.is_ready`."""
        try:
            answer = await self._call("ServerReady", service_pb2.ServerReadyRequest(), timeout)
        except (grpc.RpcError, ClientClosedError, DeadlineExceededError):
            return False
        return bool(answer.ready)

    async def close(self) -> None:
        """See `AsyncTransport.close`."""
        self._closed = True
        channel, self._channel = self._channel, None
        # Another event loop cannot await what belongs to the first one; grpc closes a channel that nobody holds.
        if channel is not None and self._loop is asyncio.get_running_loop():
            await channel.close()

    def _stub(self) -> Any:
        if self._closed:
            raise ClientClosedError
        if self._channel is None:
            self._loop = asyncio.get_running_loop()
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self._target, options=self._options)
            else:
                self._channel = grpc.aio.secure_channel(self._target, self._credentials, options=self._options)
            self._opened_stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        elif self._loop is not asyncio.get_running_loop():
            raise EventLoopError(
                "this AsyncClient belongs to the event loop of its first call, and was called from another one; make "
                "one AsyncClient in each event loop (inside the coroutine that asyncio.run gets), or use tuwen.Client"
            )
        return self._opened_stub

    async def _config(self, model: str, timeout: float) -> Any:
        try:
            return await self._call("ModelConfig", service_pb2.ModelConfigRequest(name=model), timeout)
        except grpc.RpcError as error:
            raise server_error(error, model) from error

    async def _call(self, method: str, message: Any, timeout: float) -> Any:
        """Send a request, whose headers are awaited within its timeout, and return the response.

        Raises:
            ClientClosedError: the client was closed before the response arrived.
            DeadlineExceededError: the headers did not arrive in time.
        """
        end = _clock.now() + timeout
        stub = self._stub()
        metadata = await self._metadata(timeout)
        if self._closed:
            raise ClientClosedError
        left = end - _clock.now()
        if left <= 0:
            raise DeadlineExceededError(_LATE_HEADERS)
        call = getattr(stub, method)(message, timeout=left, metadata=metadata)
        # When the channel closes, gRPC cancels the call, and awaiting it would look as if the caller's own task had
        # been cancelled. So the end of the call is awaited first; only the caller's cancellation interrupts that.
        ended = asyncio.get_running_loop().create_future()
        call.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
        try:
            await ended
        except asyncio.CancelledError:
            call.cancel()
            raise
        try:
            return await call
        except asyncio.CancelledError:
            if not self._closed:
                raise
            raise ClientClosedError from None

    async def _metadata(self, timeout: float) -> Metadata:
        headers = self._headers() if callable(self._headers) else self._headers
        if isinstance(headers, Awaitable):
            try:
                headers = await asyncio.wait_for(headers, timeout)
            except asyncio.TimeoutError as error:
                raise DeadlineExceededError(_LATE_HEADERS) from error
        return checked_headers(headers) + checked_headers(self._tracing.headers())

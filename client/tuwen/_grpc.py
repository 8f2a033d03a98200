"""The transports to Triton over gRPC, for threads and for asyncio.

The transports use the generated gRPC stubs of `tritonclient` instead of its client classes. The client classes convert
every tensor to NumPy objects and back. They raise all errors as one exception class.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tuwen import clock
from tuwen._errors import ClientClosedError, DeadlineExceededError, EventLoopError, ServerUnavailableError
from tuwen._messages import card_of, decode_response, encode_request, limits_model, server_error, statistics_of
from tuwen._transport import AsyncPendingResponse, InferRequest, InferResponse, ModelCard
from tuwen.connection import (
    AsyncHeaders,
    Headers,
    Metadata,
    NoTracing,
    Tls,
    Tracing,
    channel_options,
    channel_target,
    checked_headers,
)
from tuwen.model_names import full_name
from tuwen.statistics import Statistics

__all__ = ["AsyncGrpcTransport", "GrpcTransport"]

_CARD_MODEL = "image_embedding"
_CALLED = ("image_embedding", "text_embedding")  # the ensembles: both must be ready
_CLOSE_SECONDS = 2.0
_CHANNEL_CLOSED = re.compile(r"Cannot invoke RPC( on closed channel|: Channel closed)!")  # grpcio 1.60 to 1.85
_LATE_HEADERS = "the function that returns the headers did not return within the timeout of the call"


class GrpcTransport:
    """A transport over one gRPC channel to ``host:port``. gRPC reconnects by itself.

    Args:
        url: ``host:port``, or a gRPC target such as ``dns:///host:port``.
        tls: the encryption; None: the connection is not encrypted.
        headers: the headers of every request, or a function that returns the headers.
        tracing: the source of the trace headers; None: requests carry no trace headers.

    Raises:
        InvalidArgumentError: `url` is neither ``host:port`` nor a gRPC target, a file of `tls` cannot be read, or a
            header is invalid.
    """

    def __init__(
        self, url: str, *, tls: Tls | None = None, headers: Headers | None = None, tracing: Tracing | None = None
    ) -> None:
        target = channel_target(url)
        self._headers = headers or {}
        self._tracing = tracing or NoTracing()
        if not callable(self._headers):
            checked_headers(self._headers)
        options = channel_options(target, tls)
        if tls is None:
            self._channel = grpc.insecure_channel(target, options=options)
        else:
            self._channel = grpc.secure_channel(target, tls.credentials(), options=options)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """Send a request, wait for its response and return it, as `Transport.infer` describes."""
        message, metadata = encode_request(request, timeout), self._metadata()
        with _closed_channels():
            try:
                response = self._stub.ModelInfer(message, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                raise server_error(error, request.model, request.request_id) from error
        return decode_response(response)

    def send(self, request: InferRequest, timeout: float) -> _GrpcPending:
        """Send a request and return its pending response, as `Transport.send` describes."""
        message, metadata = encode_request(request, timeout), self._metadata()
        with _closed_channels():
            call = self._stub.ModelInfer.future(message, timeout=timeout, metadata=metadata)
        return _GrpcPending(call, request)

    def model_card(self, timeout: float, model: str = "") -> ModelCard:
        """Return the card of a model on the server, as `Transport.model_card` describes."""
        end = clock.now() + timeout
        card = self._config(full_name(model, _CARD_MODEL), timeout)
        return card_of(card, self._config(limits_model(card), end - clock.now()))

    def statistics(self, timeout: float) -> Statistics:
        """Return the server's statistics by model, as `Transport.statistics` describes."""
        query, metadata = service_pb2.ModelStatisticsRequest(), self._metadata()
        with _closed_channels():
            try:
                response = self._stub.ModelStatistics(query, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                raise server_error(error) from error
        return statistics_of(response)

    def is_ready(self, timeout: float, model: str = "") -> bool:
        """Return whether the server responds and has loaded a model, as `Transport.is_ready` describes."""
        end = clock.now() + timeout
        metadata = self._metadata()
        try:
            with _closed_channels():
                return all(
                    getattr(self._stub, method)(query, timeout=end - clock.now(), metadata=metadata).ready
                    for method, query in _questions_of_readiness(model)
                )
        except (grpc.RpcError, ClientClosedError):
            return False

    def close(self) -> None:
        """Close the connection. Pending responses fail."""
        # Channel.close waits for every call to end. It waits for ever if Ctrl-C came after grpcio made a call and
        # before grpcio started the thread that ends the call (seen with grpcio 1.85).
        closing = threading.Thread(target=self._channel.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)

    def _config(self, model: str, timeout: float) -> Any:
        query, metadata = service_pb2.ModelConfigRequest(name=model), self._metadata()
        with _closed_channels():
            try:
                return self._stub.ModelConfig(query, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                raise server_error(error, model=model) from error

    def _metadata(self) -> Metadata:
        headers = self._headers() if callable(self._headers) else self._headers
        return checked_headers(headers) + checked_headers(self._tracing.headers())


def _questions_of_readiness(model: str) -> list[tuple[str, Any]]:
    """Return the methods and messages of the calls that ask for readiness. A model is ready if all responses say so.

    Args:
        model: the name of the model; empty: the whole server.
    """
    if not model:
        return [("ServerReady", service_pb2.ServerReadyRequest())]
    return [("ModelReady", service_pb2.ModelReadyRequest(name=full_name(model, called))) for called in _CALLED]


class _GrpcPending:
    def __init__(self, call: Any, request: InferRequest) -> None:
        self._call = call
        self._request = request
        self._sent = clock.now()
        self._arrived: float | None = None
        call.add_done_callback(self._arrive)

    def result(self) -> InferResponse:
        try:
            return decode_response(self._call.result())
        except grpc.RpcError as error:
            raise server_error(error, self._request.model, self._request.request_id) from error
        except grpc.FutureCancelledError as error:
            raise ServerUnavailableError(
                "the request was cancelled", model=self._request.model, request_id=self._request.request_id
            ) from error

    def seconds(self) -> float:
        arrived = self._arrived  # None: grpc may call `_arrive` shortly after the result is available
        return (clock.now() if arrived is None else arrived) - self._sent

    def cancel(self) -> None:
        self._call.cancel()

    def _arrive(self, _: Any) -> None:
        self._arrived = clock.now()


@contextmanager
def _closed_channels() -> Iterator[None]:
    """Turn grpc's ValueError about a closed channel into a `ClientClosedError`. Other errors are passed on."""
    try:
        yield
    except ValueError as error:
        if not _CHANNEL_CLOSED.fullmatch(str(error)):
            raise
        raise ClientClosedError from error


class AsyncGrpcTransport:
    """An asynchronous transport over one gRPC channel to ``host:port``.

    The first call opens the channel in its event loop. Calls from another event loop raise `EventLoopError`.

    Args:
        url: ``host:port``, or a gRPC target such as ``dns:///host:port``.
        tls: the encryption; None: the connection is not encrypted.
        headers: the headers of every request, or a function or coroutine function that returns the headers.
        tracing: the source of the trace headers; None: requests carry no trace headers.

    Raises:
        InvalidArgumentError: `url` is neither ``host:port`` nor a gRPC target, a file of `tls` cannot be read, or a
            header is invalid.
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
        """Send a request, wait for its response and return it, as `Transport.infer` describes."""
        try:
            message = encode_request(request, timeout)
            return decode_response(await self._call("ModelInfer", message, timeout))
        except grpc.RpcError as error:
            raise server_error(error, request.model, request.request_id) from error

    def send(self, request: InferRequest, timeout: float) -> AsyncPendingResponse:
        """Send a request and return its pending response, as `Transport.send` describes."""
        return AsyncPendingResponse(self.infer(request, timeout))

    async def model_card(self, timeout: float, model: str = "") -> ModelCard:
        """Return the card of a model on the server, as `Transport.model_card` describes."""
        end = clock.now() + timeout
        card = await self._config(full_name(model, _CARD_MODEL), timeout)
        return card_of(card, await self._config(limits_model(card), end - clock.now()))

    async def statistics(self, timeout: float) -> Statistics:
        """Return the server's statistics by model, as `Transport.statistics` describes."""
        try:
            query = service_pb2.ModelStatisticsRequest()
            return statistics_of(await self._call("ModelStatistics", query, timeout))
        except grpc.RpcError as error:
            raise server_error(error) from error

    async def is_ready(self, timeout: float, model: str = "") -> bool:
        """Return whether the server responds and has loaded a model, as `Transport.is_ready` describes."""
        end = clock.now() + timeout
        try:
            for method, query in _questions_of_readiness(model):
                if not (await self._call(method, query, end - clock.now())).ready:
                    return False
        except (grpc.RpcError, ClientClosedError, DeadlineExceededError):
            return False
        return True

    async def close(self) -> None:
        """Close the connection. Pending responses fail."""
        self._closed = True
        channel, self._channel = self._channel, None
        # Only the channel's own event loop can await its end. Otherwise grpc closes the channel when it is collected.
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
        """Send a request and return the response. The timeout includes the wait for the headers.

        Raises:
            ClientClosedError: the client was closed before the response arrived.
            DeadlineExceededError: the function that returns the headers did not return in time.
        """
        end = clock.now() + timeout
        stub = self._stub()
        metadata = await self._metadata(timeout)
        if self._closed:
            raise ClientClosedError
        left = end - clock.now()
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

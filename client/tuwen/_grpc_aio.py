"""The transport of the asynchronous client: the same messages as `tuwen._grpc`, over grpc.aio."""

from __future__ import annotations

from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tuwen._card import ModelCard
from tuwen._errors import ClientClosedError
from tuwen._grpc import (
    CARD_MODEL,
    CHANNEL_OPTIONS,
    card_of,
    channel_target,
    decode_response,
    encode_request,
    server_error,
)
from tuwen._requests import InferRequest, InferResponse

__all__ = ["AsyncGrpcTransport"]


class AsyncGrpcTransport:
    """One channel to ``host:port``, opened by the first call, in whose event loop it lives.

    Raises:
        InvalidArgumentError: `url` is not ``host:port`` or a gRPC target such as ``dns:///host:port``.
    """

    def __init__(self, url: str) -> None:
        self._target = channel_target(url)
        self._channel: Any = None
        self._closed = False

    async def infer(self, request: InferRequest, timeout: float) -> InferResponse:
        """See `AsyncTransport.infer`."""
        stub = self._stub()
        try:
            return decode_response(await stub.ModelInfer(encode_request(request, timeout), timeout=timeout))
        except grpc.RpcError as error:
            raise server_error(error, request.model, request.request_id) from error

    async def model_card(self, timeout: float) -> ModelCard:
        """See `AsyncTransport.model_card`."""
        stub = self._stub()
        try:
            return card_of(await stub.ModelConfig(service_pb2.ModelConfigRequest(name=CARD_MODEL), timeout=timeout))
        except grpc.RpcError as error:
            raise server_error(error, CARD_MODEL) from error

    async def is_ready(self, timeout: float) -> bool:
        """See `AsyncTransport.is_ready`."""
        try:
            answer = await self._stub().ServerReady(service_pb2.ServerReadyRequest(), timeout=timeout)
        except (grpc.RpcError, ClientClosedError):
            return False
        return bool(answer.ready)

    async def close(self) -> None:
        """See `AsyncTransport.close`."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    def _stub(self) -> Any:
        if self._closed:
            raise ClientClosedError
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=CHANNEL_OPTIONS)
        return service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

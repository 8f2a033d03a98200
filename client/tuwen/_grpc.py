"""The transport that talks to Triton: KServe's v2 inference protocol over one gRPC channel.

It uses the protocol's stubs from `tritonclient` rather than its client class, which turns every tensor into
numpy objects and back and raises one untyped error; the stubs serve sync and async alike.
"""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tuwen import _clock
from tuwen._calls import NoTracing, Tracing
from tuwen._card import ModelCard
from tuwen._connection import Headers, Metadata, Tls, channel_options, channel_target, checked_headers, connection_error
from tuwen._errors import (
    AccessDeniedError,
    ClientClosedError,
    DeadlineExceededError,
    InferenceError,
    InputShapeError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    ServerStoppingError,
    ServerUnavailableError,
)
from tuwen._requests import InferRequest, InferResponse, Tensor
from tuwen.pixels import ImageLimits
from tuwen.statistics import ModelStatistics, Statistics

__all__ = [
    "CARD_MODEL",
    "LIMITS_MODEL",
    "GrpcTransport",
    "card_of",
    "decode_response",
    "encode_request",
    "server_error",
    "statistics_of",
]

CARD_MODEL = "image_embedding"
LIMITS_MODEL = "image_preprocessing"  # its config states the maximum size of an image
_CLOSE_SECONDS = 2.0
_STOPPING = ("Server is stopping", "has stopped accepting", "server is shutting down")  # Triton 2.51, and from 25.05
_NO_PROCESS = "is not healthy"  # a model's Python process died, or a late answer had it taken for dead
_NO_ROOM = "Failed to increase the shared memory pool"  # /dev/shm is full, as it may not be a moment later
_CHANNEL_CLOSED = re.compile(r"Cannot invoke RPC( on closed channel|: Channel closed)!")  # grpcio 1.60 to 1.85
_OTHER_SHAPE = "unexpected shape for input"  # pixels of another size than the server's model takes
_QUEUE_SHARE = 0.5  # of a request's time
_BULK_PRIORITY = 2  # of the two levels in the models' config.pbtxt; requests are of the first unless they say so


class GrpcTransport:
    """One channel to ``host:port``; gRPC reconnects by itself.

    Raises:
        InvalidArgumentError: `url` is not ``host:port`` or a gRPC target such as ``dns:///host:port``; a file of
            `tls` cannot be read; a header is invalid.
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
        """See `Transport.infer`."""
        message, metadata = encode_request(request, timeout), self._metadata()
        with _closed_channels():
            try:
                response = self._stub.ModelInfer(message, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                raise server_error(error, request.model, request.request_id) from error
        return decode_response(response)

    def send(self, request: InferRequest, timeout: float) -> _GrpcPending:
        """See `Transport.send`."""
        message, metadata = encode_request(request, timeout), self._metadata()
        with _closed_channels():
            call = self._stub.ModelInfer.future(message, timeout=timeout, metadata=metadata)
        return _GrpcPending(call, request)

    def model_card(self, timeout: float) -> ModelCard:
        """See `Transport.model_card`."""
        end = _clock.now() + timeout
        card = self._config(CARD_MODEL, timeout)
        return card_of(card, self._config(LIMITS_MODEL, end - _clock.now()))

    def statistics(self, timeout: float) -> Statistics:
        """See `Transport.statistics`."""
        query, metadata = service_pb2.ModelStatisticsRequest(), self._metadata()
        with _closed_channels():
            try:
                response = self._stub.ModelStatistics(query, timeout=timeout, metadata=metadata)
            except grpc.RpcError as error:
                raise server_error(error) from error
        return statistics_of(response)

    def is_ready(self, timeout: float) -> bool:
        """See `Transport.is_ready`."""
        query, metadata = service_pb2.ServerReadyRequest(), self._metadata()
        try:
            with _closed_channels():
                return bool(self._stub.ServerReady(query, timeout=timeout, metadata=metadata).ready)
        except (grpc.RpcError, ClientClosedError):
            return False

    def close(self) -> None:
        """See `Transport.close`."""
        # grpcio waits here for every call to end: for ever, if an interrupt (Ctrl-C) came after it made a call and
        # before it started the thread that ends it (seen with 1.85).
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


class _GrpcPending:
    def __init__(self, call: Any, request: InferRequest) -> None:
        self._call = call
        self._request = request
        self._sent = _clock.now()
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
        arrived = self._arrived  # grpc may call back a moment after it has handed out the result
        return (_clock.now() if arrived is None else arrived) - self._sent

    def cancel(self) -> None:
        self._call.cancel()

    def _arrive(self, _: Any) -> None:
        self._arrived = _clock.now()


@contextmanager
def _closed_channels() -> Iterator[None]:
    """Turn the ValueError with which grpc answers on a closed channel into a `ClientClosedError`, and no other."""
    try:
        yield
    except ValueError as error:
        if not _CHANNEL_CLOSED.fullmatch(str(error)):
            raise
        raise ClientClosedError from error


def encode_request(request: InferRequest, timeout: float) -> Any:
    """A `ModelInferRequest` with one input in raw bytes: uint8 tensors one after the other, or strings, each after its
    length (uint32, little-endian)."""
    message = service_pb2.ModelInferRequest(model_name=request.model, id=request.request_id)
    count = len(request.items)
    if request.item_shape:
        message.inputs.add(name=request.input_name, datatype="UINT8", shape=[count, *request.item_shape])
        message.raw_input_contents.append(b"".join(request.items))
    else:
        message.inputs.add(name=request.input_name, datatype="BYTES", shape=[count, 1])
        message.raw_input_contents.append(
            b"".join(part for item in request.items for part in (struct.pack("<I", len(item)), item))
        )
    for name in request.outputs:
        message.outputs.add(name=name)
    message.parameters["per_item_status"].bool_param = True
    if request.bulk:
        message.parameters["priority"].uint64_param = _BULK_PRIORITY
    # How long the request may wait in a queue of the server, in microseconds; a cancelled call alone would not leave
    # it. Queues are served in order, so that under overload all that is computed has waited almost that long: were it
    # the whole timeout, every answer would come too late.
    message.parameters["timeout"].int64_param = max(1, int(timeout * _QUEUE_SHARE * 1e6))
    # For encoders without a queue policy, which see only at their turn how long a request has waited: microseconds
    # since 1970.
    message.parameters["sent_at"].int64_param = int(_clock.wall() * 1e6)
    return message


def decode_response(message: Any) -> InferResponse:
    """The outputs of a `ModelInferResponse`.

    Raises:
        InferenceError: an output is of a type that the SDK does not know, or not as long as its shape says.
    """
    try:
        return InferResponse(_outputs(message))
    except (ValueError, struct.error) as error:
        raise InferenceError(f"malformed response: {error}", model=message.model_name) from error


def _outputs(message: Any) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    for output, raw in zip(message.outputs, message.raw_output_contents, strict=True):
        shape = tuple(output.shape)
        if output.datatype == "BYTES":
            outputs[output.name] = _strings(raw)
        elif output.datatype == "FP32":
            outputs[output.name] = np.frombuffer(raw, dtype="<f4").reshape(shape)
        elif output.datatype == "BOOL":
            outputs[output.name] = np.frombuffer(raw, dtype=np.bool_).reshape(shape)
        else:
            raise InferenceError(f"output {output.name} is {output.datatype}", model=message.model_name)
    return outputs


def card_of(ensemble: Any, preprocessing: Any) -> ModelCard:
    """Return the card that two messages `ModelConfigResponse` hold.

    Args:
        ensemble: the config of the ensemble that carries the card.
        preprocessing: the config of the model that limits the size of an image.

    Raises:
        InferenceError: the repository carries no card.
    """
    card = {name: value.string_value for name, value in ensemble.config.parameters.items()}
    limit = preprocessing.config.parameters.get("MAX_IMAGE_BYTES")
    max_bytes = int(limit.string_value) if limit else ImageLimits.max_bytes
    return ModelCard.from_parameters(card, ensemble.config.max_batch_size, max_bytes)


def statistics_of(message: Any) -> Statistics:
    """The counters of a `ModelStatisticsResponse`; times there are in nanoseconds."""

    def read(model: Any) -> ModelStatistics:
        inference = model.inference_stats
        compute = (inference.compute_input, inference.compute_infer, inference.compute_output)
        return ModelStatistics(
            requests=inference.success.count,
            failures=inference.fail.count,
            items=model.inference_count,
            executions=model.execution_count,
            total_seconds=inference.success.ns / 1e9,
            queue_seconds=inference.queue.ns / 1e9,
            compute_seconds=sum(step.ns for step in compute) / 1e9,
        )

    return {model.name: read(model) for model in message.model_stats}


def server_error(error: Any, model: str | None = None, request_id: str = "") -> ServerError:
    """The error of this SDK that a gRPC status stands for. Triton's statuses are coarse, so the message counts too."""
    code, message = error.code().name, error.details() or ""
    if found := connection_error(message):
        kind, message = found
        return kind(message, model=model, code=code, request_id=request_id)
    kind = InputShapeError if code == "INVALID_ARGUMENT" and _OTHER_SHAPE in message else InferenceError
    if code == "UNAVAILABLE":
        kind = ServerUnavailableError
        if "Exceeds maximum queue size" in message or "Request timeout expired" in message:
            kind = OverloadedError
        elif "protocol is restricted" in message:
            kind = AccessDeniedError
        elif any(said in message for said in _STOPPING):
            kind = ServerStoppingError
    elif code == "NOT_FOUND":
        # Triton says so of a model that it is just unloading, while it stops.
        kind = ServerStoppingError if "no available versions" in message else ModelNotFoundError
        if kind is ModelNotFoundError and model == "pixel_embedding":
            message += "; build the repository again with this version of tuwen, or use preprocess='server'"
    elif code == "DEADLINE_EXCEEDED":
        kind = DeadlineExceededError
    elif code == "CANCELLED":  # not by us, who no longer ask then: Triton, while it stops (from 25.05)
        kind = ServerStoppingError
    elif code == "RESOURCE_EXHAUSTED" or (code == "INTERNAL" and _NO_ROOM in message):
        kind = OverloadedError
    elif code == "INTERNAL" and _NO_PROCESS in message:
        kind = ServerUnavailableError
    elif code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        kind = AccessDeniedError
    return kind(message or code, model=model, code=code, request_id=request_id)


def _strings(raw: bytes) -> tuple[bytes, ...]:
    values, position = [], 0
    while position < len(raw):
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4
        values.append(raw[position : position + length])
        position += length
    return tuple(values)

"""Requests and responses as messages of KServe's v2 inference protocol, as Triton speaks it over gRPC."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from tuwen import clock
from tuwen._errors import (
    AccessDeniedError,
    DeadlineExceededError,
    InferenceError,
    InputShapeError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    ServerStoppingError,
    ServerUnavailableError,
)
from tuwen._transport import InferRequest, InferResponse, ModelCard, Tensor
from tuwen.connection import connection_error
from tuwen.model_names import full_name
from tuwen.pixels import ImageLimits
from tuwen.statistics import ModelStatistics, Statistics

__all__ = ["card_of", "decode_response", "encode_request", "limits_model", "server_error", "statistics_of"]

# Messages of Triton 2.51 and, with other words, of releases from 25.05 on.
_STOPPING = ("Server is stopping", "has stopped accepting", "server is shutting down")
_NO_PROCESS = "is not healthy"  # a model's Python process died, or responded so late that it seemed dead
_NO_ROOM = "Failed to increase the shared memory pool"  # /dev/shm is full for the moment
_OLD_REPOSITORY = "; build the repository again with this version of tuwen, or use preprocess='server'"
_UNLOADED = "; the model was unloaded (`tuwen models load` loads it), or the server is stopping"
_OTHER_NAME = "; `tuwen status` lists the models of a server, and Client(model=...) or --model chooses one"
_OTHER_SHAPE = "unexpected shape for input"  # the image size differs from that of the server's model
_QUEUE_SHARE = 0.5  # the part of a request's timeout that it may wait in a queue
_BULK_PRIORITY = 2  # the lower of the two levels in the models' config.pbtxt; the default level is 1


def encode_request(request: InferRequest, timeout: float) -> Any:
    """Return a `ModelInferRequest` with one input in raw bytes.

    The bytes are the concatenated uint8 tensors or strings. Each string is preceded by its length, a uint32 in
    little-endian order.

    Args:
        request: the request.
        timeout: the seconds until the client gives up the request.
    """
    message = service_pb2.ModelInferRequest()
    message.CopyFrom(_template(request.model, request.input_name, request.item_shape, request.outputs, request.bulk))
    message.id = request.request_id
    if request.item_shape:
        message.inputs[0].shape.extend((len(request.items), *request.item_shape))
        raw = b"".join(request.items)
    else:
        message.inputs[0].shape.extend((len(request.items), 1))
        raw = b"".join(part for item in request.items for part in (struct.pack("<I", len(item)), item))
    message.raw_input_contents.append(raw)
    # The time that the request may wait in a queue of the server, in microseconds. Triton leaves cancelled requests in
    # its queues. Under overload, every request waits almost this long, so the whole timeout would be too much.
    message.parameters["timeout"].int64_param = max(1, int(timeout * _QUEUE_SHARE * 1e6))
    # Microseconds since 1970. An encoder without a queue policy uses this time to see how long a request has waited.
    message.parameters["sent_at"].int64_param = int(clock.wall() * 1e6)
    return message


@lru_cache(maxsize=64)
def _template(model: str, input_name: str, item_shape: tuple[int, ...], outputs: tuple[str, ...], bulk: bool) -> Any:
    """Return the part of a message that all requests for one model share. A copy is faster than a new message."""
    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name=input_name, datatype="UINT8" if item_shape else "BYTES")
    for name in outputs:
        message.outputs.add(name=name)
    message.parameters["per_item_status"].bool_param = True
    if bulk:
        message.parameters["priority"].uint64_param = _BULK_PRIORITY
        message.parameters["bulk"].bool_param = True
    return message


def decode_response(message: Any) -> InferResponse:
    """Return the outputs of a `ModelInferResponse`.

    Raises:
        InferenceError: an output has an unknown type, or a length that does not match its shape.
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
            raise InferenceError(
                f"output {output.name!r}: expected the type FP32, BOOL or BYTES, got {output.datatype}",
                model=message.model_name,
            )
    return outputs


_NO_ANSWER = (
    "no response came before the timeout; check that the server runs and that its address is right, or allow more time"
)


def card_of(ensemble: Any, preprocessing: Any) -> ModelCard:
    """Return the model card from two `ModelConfigResponse` messages.

    Args:
        ensemble: the config of the ensemble that holds the card.
        preprocessing: the config of the model that limits the size of an image.

    Raises:
        InferenceError: the repository has no card.
    """
    card = {name: value.string_value for name, value in ensemble.config.parameters.items()}
    limit = preprocessing.config.parameters.get("MAX_IMAGE_BYTES")
    max_bytes = int(limit.string_value) if limit else ImageLimits.max_bytes
    return ModelCard.from_parameters(card, ensemble.config.max_batch_size, max_bytes)


def limits_model(ensemble: Any) -> str:
    """Return the name of the model whose config states the maximum size of an image.

    Args:
        ensemble: the message `ModelConfigResponse` of the ensemble that holds the card. If the ensemble is an alias,
            its card states the name of the repository behind the alias.
    """
    parameters = ensemble.config.parameters
    return full_name(parameters["name"].string_value if "name" in parameters else "", "image_preprocessing")


def statistics_of(message: Any) -> Statistics:
    """Return the counters of each model in a `ModelStatisticsResponse`. Its nanoseconds are converted to seconds."""

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
    """Return the SDK's error for a gRPC error of Triton.

    Triton uses one status for several causes, so the type of the error depends on the text of the message, too.

    Args:
        error: the gRPC error, with a status and a message.
        model: the Triton model that was called; None: the call concerned no model.
        request_id: the ID of the request; empty: the call had no ID.
    """
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
        kind, advice = _not_found(message, model or "")
        message += advice
    elif code == "DEADLINE_EXCEEDED":
        kind = DeadlineExceededError
        message = f"{_NO_ANSWER} [{message or code}]"
    elif code == "CANCELLED":  # by Triton from 25.05 on, while it stops; the client awaits no request that it cancels
        kind = ServerStoppingError
    elif code == "RESOURCE_EXHAUSTED" or (code == "INTERNAL" and _NO_ROOM in message):
        kind = OverloadedError
    elif code == "INTERNAL" and _NO_PROCESS in message:
        kind = ServerUnavailableError
    elif code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        kind = AccessDeniedError
    return kind(message or code, model=model, code=code, request_id=request_id)


def _not_found(message: str, model: str) -> tuple[type[ServerError], str]:
    """Return the error type for a model that the server does not have, and the advice for the user."""
    if "no available versions" in message:  # the model is unloaded; a stopping Triton unloads all models
        return ServerStoppingError, _UNLOADED
    return ModelNotFoundError, _OLD_REPOSITORY if model.endswith("pixel_embedding") else _OTHER_NAME


def _strings(raw: bytes) -> tuple[bytes, ...]:
    values, position = [], 0
    while position < len(raw):
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4
        values.append(raw[position : position + length])
        position += length
    return tuple(values)

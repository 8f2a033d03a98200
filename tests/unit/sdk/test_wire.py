"""Requests and responses in Triton's protocol, compared with tritonclient, and the error for each gRPC status."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferResult, service_pb2
from tritonclient.utils import serialize_byte_tensor

from tuwen import (
    AccessDeniedError,
    DeadlineExceededError,
    InferenceError,
    ModelNotFoundError,
    OverloadedError,
    ServerError,
    ServerStoppingError,
    ServerUnavailableError,
)
from tuwen._errors import InputShapeError
from tuwen._messages import decode_response, encode_request, server_error
from tuwen._requests import EmbeddingBatch
from tuwen._responses import parse
from tuwen._transport import InferRequest, InferResponse
from tuwen.testing import FakeTransport

REQUEST = InferRequest("image_embedding", "image", (b"", b"abc", b"\x00" * 300), ("embedding", "status"))


def test_items_are_encoded_as_tritonclient_encodes_them() -> None:
    message = encode_request(REQUEST, timeout=1.5)
    expected = serialize_byte_tensor(np.array(REQUEST.items, dtype=object).reshape(-1, 1)).item()
    assert message.raw_input_contents[0] == expected
    assert list(message.inputs[0].shape) == [3, 1]
    assert message.parameters["timeout"].int64_param == 750_000
    assert message.parameters["per_item_status"].bool_param is True


def test_outputs_are_decoded_as_tritonclient_decodes_them() -> None:
    message = service_pb2.ModelInferResponse(model_name="m")
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    statuses = np.array([b"", "坏".encode()], dtype=object).reshape(2, 1)
    for name, datatype, array, raw in [
        ("embedding", "FP32", rows, rows.tobytes()),
        ("status", "BYTES", statuses, serialize_byte_tensor(statuses).item()),
        ("truncated", "BOOL", np.ones((2, 1)), b"\x01\x00"),
    ]:
        message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        message.raw_output_contents.append(raw)
    outputs = decode_response(message).outputs
    np.testing.assert_array_equal(outputs["embedding"], InferResult(message).as_numpy("embedding"))
    assert outputs["status"] == tuple(InferResult(message).as_numpy("status")[:, 0])
    np.testing.assert_array_equal(outputs["truncated"], [[True], [False]])


@pytest.mark.parametrize(
    ("datatype", "shape", "content"),
    [("FP32", [1, 4], b"\0" * 15), ("BOOL", [2, 1], b"\0"), ("BYTES", [1, 1], b"\x05\0"), ("FP32", [1, 1], None)],
)
def test_a_malformed_response_raises_inference_error(datatype: str, shape: list[int], content: bytes | None) -> None:
    message = service_pb2.ModelInferResponse(model_name="image_embedding")
    message.outputs.add(name="embedding", datatype=datatype, shape=shape)
    if content is not None:
        message.raw_output_contents.append(content)
    with pytest.raises(InferenceError, match="malformed response: .*image_embedding"):
        decode_response(message)


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"embedding": np.zeros((3, 4), dtype=np.float32)},
        {"embedding": np.zeros((2, 4), dtype=np.float32), "status": (b"",) * 3},
        {"embedding": np.zeros((3, 4), dtype=np.float32), "status": (b"",) * 2},
    ],
)
def test_outputs_of_a_wrong_length_raise_inference_error(outputs: dict[str, object]) -> None:
    with pytest.raises(InferenceError, match="expected 3 rows in each of the outputs"):
        parse(EmbeddingBatch(REQUEST, ((0,), (1,), (2,)), ()), InferResponse(outputs), FakeTransport().card)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("UNAVAILABLE", "failed to connect to all addresses", ServerUnavailableError),
        ("UNAVAILABLE", "Server is stopping, scheduler for model has stopped", ServerStoppingError),
        ("UNAVAILABLE", "in ensemble 'x', Exceeds maximum queue size", OverloadedError),
        ("UNAVAILABLE", "Request timeout expired", OverloadedError),
        ("UNAVAILABLE", "This protocol is restricted, expecting header 'triton-grpc-protocol-k'", AccessDeniedError),
        ("NOT_FOUND", "Request for unknown model: 'x' is not found", ModelNotFoundError),
        ("NOT_FOUND", "Request for unknown model: 'x' has no available versions", ServerStoppingError),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceededError),
        ("CANCELLED", "CANCELLED", ServerStoppingError),
        ("UNAVAILABLE", "GRPC server is shutting down and has stopped accepting new requests", ServerStoppingError),
        ("RESOURCE_EXHAUSTED", "quota", OverloadedError),
        ("UNAUTHENTICATED", "token", AccessDeniedError),
        ("PERMISSION_DENIED", "token", AccessDeniedError),
        (
            "INVALID_ARGUMENT",
            "[request id: 1] unexpected shape for input 'pixel_values' for model 'x'",
            InputShapeError,
        ),
        ("INVALID_ARGUMENT", "unexpected datatype", InferenceError),
        ("INTERNAL", "in ensemble 'x', Stub process 'y_0_0' is not healthy.", ServerUnavailableError),
        ("INTERNAL", "Failed to increase the shared memory pool size for key 'x' to 8388608 bytes.", OverloadedError),
        ("INTERNAL", "in ensemble 'x', ValueError: y", InferenceError),
        ("UNKNOWN", "", InferenceError),
    ],
)
def test_every_grpc_status_becomes_an_error_class(code: str, message: str, kind: type[ServerError]) -> None:
    status = SimpleNamespace(code=lambda: grpc.StatusCode[code], details=lambda: message)
    error = server_error(status, "image_embedding", "abc")
    assert type(error) is kind
    assert (error.code, error.model, error.request_id) == (code, "image_embedding", "abc")
    assert error.retryable == issubclass(kind, (ServerUnavailableError, OverloadedError))
    assert (message or code) in str(error)


def test_the_error_for_an_older_repository_says_to_build_it_again() -> None:
    status = SimpleNamespace(code=lambda: grpc.StatusCode.NOT_FOUND, details=lambda: "unknown model")
    error = server_error(status, "pixel_embedding")
    assert type(error) is ModelNotFoundError
    assert "build the repository again with this version of tuwen, or use preprocess='server'" in str(error)

"""A gRPC server in this process that speaks Triton's protocol, for tests that need a network but no model."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tuwen._transport import InferRequest
from tuwen.testing import FakeTransport

__all__ = ["GrpcServer"]


class GrpcServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A gRPC server that responds as Triton does with a tuwen repository; a context manager.

    Args:
        credentials: the TLS credentials; None: the server does not encrypt.
        key: the name and the value of a header that every ModelInfer must carry; None: no header is required.
        before_answer: a function that runs before the response to every ModelInfer.
        workers: the number of requests that are handled at the same time.

    Attributes:
        url: the address of the server, ``host:port``.
        calls: the metadata of every ModelInfer, in order.
        peers: the address of the caller of every ModelInfer, in order.
        fake: the fake transport that makes the responses.
        version: the version of Triton that the server reports.
        clock_skew: the seconds by which the server's clock is ahead of this machine's.
    """

    def __init__(
        self,
        credentials: grpc.ServerCredentials | None = None,
        *,
        key: tuple[str, str] | None = None,
        before_answer: Callable[[], object] = lambda: None,
        workers: int = 8,
    ) -> None:
        self.calls: list[dict[str, str]] = []
        self.peers: list[str] = []
        self.fake = FakeTransport()
        self.version, self.clock_skew = "2.75.0", 0.0
        self._key = key
        self._before_answer = before_answer
        self._server = grpc.server(ThreadPoolExecutor(workers))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.url = f"127.0.0.1:{port}"

    def __enter__(self) -> GrpcServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = service_pb2.ModelConfigResponse()
        card = self.fake.card
        if request.name == "image_preprocessing":
            response.config.parameters["MAX_IMAGE_BYTES"].string_value = str(card.max_image_bytes)
            return response
        response.config.max_batch_size = card.max_batch_size
        for name, value in card.to_parameters().items():
            response.config.parameters[name].string_value = value
        return response

    def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="triton", version=self.version)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = service_pb2.ModelStatisticsResponse()
        for name, counted in self.fake.statistics(1).items():
            last = int((time.time() + self.clock_skew) * 1e3)
            model = response.model_stats.add(name=name, last_inference=last)
            model.inference_count, model.execution_count = counted.items, counted.executions
            model.inference_stats.success.count = counted.requests
        return response

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        metadata = dict(context.invocation_metadata())
        self.calls.append(metadata)
        self.peers.append(context.peer())
        self._before_answer()
        if self._key and metadata.get(self._key[0]) != self._key[1]:
            # the status and the message with which Triton refuses a request without the key of a restricted protocol
            context.abort(
                grpc.StatusCode.UNAVAILABLE, f"This protocol is restricted, expecting header '{self._key[0]}'"
            )
        raw, items, position = request.raw_input_contents[0], [], 0
        while position < len(raw):
            (length,) = struct.unpack_from("<I", raw, position)
            items.append(raw[position + 4 : position + 4 + length])
            position += 4 + length
        wanted = tuple(output.name for output in request.outputs)
        answer = self.fake.send(
            InferRequest(request.model_name, request.inputs[0].name, tuple(items), wanted), 1
        ).result()
        response = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        for name, tensor in answer.outputs.items():
            if isinstance(tensor, tuple):
                response.outputs.add(name=name, datatype="BYTES", shape=[len(tensor), 1])
                content = b"".join(struct.pack("<I", len(value)) + value for value in tensor)
            else:
                datatype = "BOOL" if tensor.dtype == np.bool_ else "FP32"
                response.outputs.add(name=name, datatype=datatype, shape=list(tensor.shape))
                content = tensor.tobytes()
            response.raw_output_contents.append(content)
        return response

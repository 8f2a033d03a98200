"""Let requests in flight finish before tritonserver is told to stop.

At SIGTERM Triton stops the schedulers of all models at once, so a request that is between the two steps of an
ensemble fails ("scheduler ... has stopped accepting new inference requests", Triton 2.51). An ensemble that is
unloaded, on the other hand, turns new requests away and finishes those it has, while its steps stay loaded.
Unloading needs model control, which here only the holder of a key has.
"""

from __future__ import annotations

import contextlib
import secrets

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tuwen_build.server._clock import Clock, SystemClock

__all__ = ["ModelControl"]

_ENSEMBLES = ("image_embedding", "pixel_embedding", "text_embedding")
_NAME = "tuwen"  # as in the Helm chart: requests carry the key as `triton-grpc-protocol-tuwen`, over HTTP as `tuwen`
_PROTOCOLS = "model-repository,shared-memory,trace,logging"
_ALL_OF_HTTP = "inference,metadata,model-config,statistics"  # but for health
_POLL_SECONDS = 0.05
_CALL_SECONDS = 5.0


class ModelControl:
    """The right to unload models of one server, guarded by a key; and the other rights that not everybody should have.

    Client shared memory among them: whoever may register a region may have the server read and write it.

    Args:
        key: of the operator, to use those rights, too; None: nobody but this object knows it.
        http_inference: whether others may ask for inference and metadata over HTTP. If not, HTTP tells others nothing
            but whether the server is healthy: Triton answers 403 before it reads the body of a request.
        clock: measures the timeout of draining; tests replace it.
    """

    def __init__(self, key: str | None = None, *, http_inference: bool = False, clock: Clock | None = None) -> None:
        self._key = key or secrets.token_hex(16)
        self._clock = clock or SystemClock()
        self._over_http = _PROTOCOLS if http_inference else f"{_PROTOCOLS},{_ALL_OF_HTTP}"

    def arguments(self) -> list[str]:
        """The arguments of tritonserver that grant the rights to the key's holder, and to nobody else."""
        return [
            "--model-control-mode=explicit",
            "--load-model=*",
            f"--grpc-restricted-protocol={_PROTOCOLS}:{_NAME}={self._key}",
            f"--http-restricted-api={self._over_http}:{_NAME}={self._key}",
        ]

    def drain(self, grpc_url: str, timeout: float) -> None:
        """Unload the ensembles and wait until their requests are answered, or the timeout is over.

        Never raises: a server that cannot be drained is stopped all the same.
        """
        metadata = [(f"triton-grpc-protocol-{_NAME}", self._key)]
        deadline = self._clock.monotonic() + timeout
        with grpc.insecure_channel(grpc_url) as channel, contextlib.suppress(grpc.RpcError):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for name in _ENSEMBLES:
                unload = service_pb2.RepositoryModelUnloadRequest(model_name=name)
                stub.RepositoryModelUnload(unload, timeout=_CALL_SECONDS, metadata=metadata)
            while self._clock.monotonic() < deadline:
                query = service_pb2.RepositoryIndexRequest()
                index = stub.RepositoryIndex(query, timeout=_CALL_SECONDS, metadata=metadata).models
                if not any(model.name in _ENSEMBLES and model.state in ("READY", "UNLOADING") for model in index):
                    return
                self._clock.sleep(_POLL_SECONDS)

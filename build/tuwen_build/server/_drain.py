"""Let requests in flight finish before tritonserver is told to stop.

At SIGTERM Triton stops the schedulers of all models at once, so a request that is between the two steps of an
ensemble fails ("scheduler ... has stopped accepting new inference requests", Triton 2.51). An ensemble that is
unloaded, on the other hand, turns new requests away and finishes those it has, while its steps stay loaded.
Unloading needs model control, which here only the holder of a random key has.
"""

from __future__ import annotations

import contextlib
import secrets
import time

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

__all__ = ["ModelControl"]

_ENSEMBLES = ("image_embedding", "text_embedding")
_HEADER = "tuwen-control"
_POLL_SECONDS = 0.05
_CALL_SECONDS = 5.0


class ModelControl:
    """The right to unload models of one server, guarded by a key that only this object knows."""

    def __init__(self) -> None:
        self._key = secrets.token_hex(16)

    def arguments(self) -> list[str]:
        """The arguments of tritonserver that grant the right to the key's holder, and to nobody else."""
        return [
            "--model-control-mode=explicit",
            "--load-model=*",
            f"--grpc-restricted-protocol=model-repository:{_HEADER}={self._key}",
            f"--http-restricted-api=model-repository:{_HEADER}={self._key}",
        ]

    def drain(self, grpc_url: str, timeout: float) -> None:
        """Unload the ensembles and wait until their requests are answered, or the timeout is over.

        Never raises: a server that cannot be drained is stopped all the same.
        """
        metadata = [(f"triton-grpc-protocol-{_HEADER}", self._key)]
        deadline = time.monotonic() + timeout
        with grpc.insecure_channel(grpc_url) as channel, contextlib.suppress(grpc.RpcError):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for name in _ENSEMBLES:
                unload = service_pb2.RepositoryModelUnloadRequest(model_name=name)
                stub.RepositoryModelUnload(unload, timeout=_CALL_SECONDS, metadata=metadata)
            while time.monotonic() < deadline:
                query = service_pb2.RepositoryIndexRequest()
                index = stub.RepositoryIndex(query, timeout=_CALL_SECONDS, metadata=metadata).models
                if not any(model.name in _ENSEMBLES and model.state in ("READY", "UNLOADING") for model in index):
                    return
                time.sleep(_POLL_SECONDS)

"""Let requests in flight finish before tritonserver is told to stop.

At SIGTERM Triton stops the schedulers of all models at once, so a request that is between the two steps of an
ensemble fails ("scheduler ... has stopped accepting new inference requests", Triton 2.51). An ensemble that is
unloaded, on the other hand, turns new requests away and finishes those it has, while its steps stay loaded.
Unloading needs model control, which here only the holder of a key has.
"""

from __future__ import annotations

import json
import secrets
from http.client import HTTPException

from tuwen import clock as system_clock
from tuwen.clock import Clock
from tuwen_server._local_http import post

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
        self._clock = clock or system_clock
        self._over_http = _PROTOCOLS if http_inference else f"{_PROTOCOLS},{_ALL_OF_HTTP}"

    def arguments(self) -> list[str]:
        """The arguments of tritonserver that grant the rights to the key's holder, and to nobody else."""
        return [
            "--model-control-mode=explicit",
            "--load-model=*",
            f"--grpc-restricted-protocol={_PROTOCOLS}:{_NAME}={self._key}",
            f"--http-restricted-api={self._over_http}:{_NAME}={self._key}",
        ]

    def drain(self, http_url: str, timeout: float) -> str | None:
        """Unload the ensembles and wait until their requests are answered, or the timeout is over.

        The calls go over HTTP, which Triton never encrypts: a server whose gRPC port wants TLS is drained alike.

        Args:
            http_url: the address of Triton's HTTP API on this machine.
            timeout: the seconds that requests in flight get.

        Returns:
            Why requests may have been lost, as a sentence for the log; None if all were answered.
        """
        deadline = self._clock.now() + timeout
        repository = f"{http_url}/v2/repository"
        try:
            for name in _ENSEMBLES:
                self._post(f"{repository}/models/{name}/unload")
            while self._clock.now() < deadline:
                if not _busy(self._post(f"{repository}/index")):
                    return None
                self._clock.pause(_POLL_SECONDS)
        except (OSError, HTTPException, ValueError) as error:
            return f"requests in flight were not waited for, because the server could not be drained: {error}"
        return f"requests were still in flight after the drain timeout of {timeout:.0f} s"

    def _post(self, url: str) -> bytes:
        return post(url, {_NAME: self._key}, _CALL_SECONDS)


def _busy(index: bytes) -> bool:
    """Return whether an ensemble of this repository index still has requests.

    Raises:
        ValueError: the index is not the list of objects that Triton sends.
    """
    models = json.loads(index)
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        raise ValueError(f"expected a list of models as repository index, got {index[:100]!r}")
    return any(model.get("name") in _ENSEMBLES and model.get("state") in ("READY", "UNLOADING") for model in models)

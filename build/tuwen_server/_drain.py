"""Draining: requests in flight finish before tritonserver is told to stop.

At SIGTERM, Triton stops the schedulers of all models at once. A request that is between the two steps of an ensemble
then fails ("scheduler ... has stopped accepting new inference requests", Triton 2.51). An ensemble that is unloaded
rejects new requests and finishes the accepted ones, while its steps stay loaded. Unloading is a request of model
control, which the server accepts only with its secret key.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterable
from http.client import HTTPException

from google.protobuf.json_format import Parse, ParseError
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tuwen import clock as system_clock
from tuwen.clock import Clock
from tuwen.model_names import ENSEMBLES, name_and_model
from tuwen_server._local_http import get, post

__all__ = ["GRPC_KEY_HEADER", "ModelControl"]

_NAME = "tuwen"  # as in the Helm chart: requests carry the key as `triton-grpc-protocol-tuwen`, over HTTP as `tuwen`
GRPC_KEY_HEADER = f"triton-grpc-protocol-{_NAME}"
"""The gRPC header with the key of the restricted protocols."""
_PROTOCOLS = "model-repository,shared-memory,trace,logging"
_ALL_OF_HTTP = "inference,metadata,model-config,statistics"  # health checks stay open to all
_POLL_SECONDS = 0.05
_CALL_SECONDS = 5.0
_ALIAS_SECONDS = 0.5  # for requests through aliases, if the server has no metrics that tell when they are answered
_PENDING = re.compile(r'^nv_inference_pending_request_count\{[^}]*\bmodel="([^"]+)"', re.MULTILINE)


class ModelControl:
    """The privileged rights on one server, guarded by a key: unloading models, shared memory, tracing and logging.

    Shared memory is privileged because a caller who registers a region can make the server read and write it.

    Args:
        key: the operator's key; None: a random key is made, which only this object knows.
        http_inference: whether requests without the key may use inference and metadata over HTTP. If not, only health
            checks are allowed: Triton answers 403 before it reads the body of a request.
        clock: the clock that measures the timeout of draining. Tests replace it.
    """

    def __init__(self, key: str | None = None, *, http_inference: bool = False, clock: Clock | None = None) -> None:
        self._key = key or secrets.token_hex(16)
        self._clock = clock or system_clock
        self._over_http = _PROTOCOLS if http_inference else f"{_PROTOCOLS},{_ALL_OF_HTTP}"

    def arguments(self) -> list[str]:
        """Return the arguments of tritonserver that grant the rights to the holder of the key alone."""
        return [
            "--model-control-mode=explicit",
            "--load-model=*",
            f"--grpc-restricted-protocol={_PROTOCOLS}:{_NAME}={self._key}",
            f"--http-restricted-api={self._over_http}:{_NAME}={self._key}",
        ]

    def names_in_use(self, http_url: str) -> set[str]:
        """Return the names of the repositories with a model that is loaded, being loaded or being unloaded.

        Raises:
            OSError, HTTPException, ValueError: the server did not list its models.
        """
        index = self._index(http_url)
        used = [name_and_model(name) for name, state in index if state in ("READY", "LOADING", "UNLOADING")]
        return {split[0] for split in used if split is not None}

    def aliases(self, http_url: str, names: Collection[str]) -> list[ModelConfig]:
        """Return the configurations of the loaded ensembles that belong to aliases.

        Args:
            http_url: the address of Triton's HTTP API on this machine.
            names: the names of the repositories. Every other name is an alias.

        Raises:
            OSError, HTTPException, ValueError: the server did not list its models or return a configuration.
        """
        configs = []
        for ensemble in self._loaded_ensembles(http_url):
            name, _ = name_and_model(ensemble) or ("", "")
            if name not in names:
                content = get(f"{http_url}/v2/models/{ensemble}/config", {_NAME: self._key}, _CALL_SECONDS)
                try:
                    configs.append(Parse(content, ModelConfig(), ignore_unknown_fields=True))
                except ParseError as error:
                    raise ValueError(f"cannot read the configuration of {ensemble}: {error}") from error
        return configs

    def drain(self, http_url: str, metrics_url: str, timeout: float) -> str | None:
        """Unload the ensembles, and wait until their requests are answered or the timeout has passed.

        The calls go over HTTP, which Triton never encrypts, so that a server with TLS for gRPC is drained too.

        The server's index shows when the ensembles of a repository are unloaded, but lacks the ensembles of aliases.
        The metrics show when an alias is unloaded: Triton then removes the gauge of pending requests of its ensembles.

        Args:
            http_url: the address of Triton's HTTP API on this machine.
            metrics_url: the address of Triton's metrics on this machine.
            timeout: the maximum time in seconds for requests in flight.

        Returns:
            A sentence for the log that says why requests may have been lost; None: every request was answered.
        """
        deadline = self._clock.now() + timeout
        repository = f"{http_url}/v2/repository"
        try:
            listed = _ensembles(self._index(http_url), "READY")
            aliases = sorted(set(self._loaded_ensembles(http_url)) - set(listed))
            measured = _models_with_gauge(metrics_url).intersection(aliases)
            for name in (*listed, *aliases):
                self._post(f"{repository}/models/{name}/unload")
            if measured != set(aliases):
                self._clock.pause(min(_ALIAS_SECONDS, timeout))
            while self._clock.now() < deadline:
                busy = _ensembles(self._index(http_url), "READY", "UNLOADING")
                if not busy and not (measured and measured & _models_with_gauge(metrics_url)):
                    return None
                self._clock.pause(_POLL_SECONDS)
        except (OSError, HTTPException, ValueError) as error:
            return f"requests in flight were not waited for, because the server could not be drained: {error}"
        return f"requests were still in flight after the drain timeout of {timeout:.0f} s"

    def _index(self, http_url: str) -> list[tuple[str, str]]:
        """Return the name and the state of each model in the server's repositories."""
        models = _objects(json.loads(self._post(f"{http_url}/v2/repository/index")))
        return [(str(model.get("name")), str(model.get("state", ""))) for model in models]

    def _loaded_ensembles(self, http_url: str) -> list[str]:
        """Return all loaded ensembles, from the statistics. The index lacks ensembles of aliases."""
        content = json.loads(get(f"{http_url}/v2/models/stats", {_NAME: self._key}, _CALL_SECONDS))
        models = _objects(content.get("model_stats") if isinstance(content, dict) else content)
        return _ensembles([(str(model.get("name")), "READY") for model in models], "READY")

    def _post(self, url: str) -> bytes:
        return post(url, {_NAME: self._key}, _CALL_SECONDS)


def _models_with_gauge(metrics_url: str) -> set[str]:
    """Return the models whose pending requests the metrics show; empty: the server has no metrics."""
    try:
        page = get(metrics_url, {}, _CALL_SECONDS).decode()
    except (OSError, HTTPException, ValueError):
        return set()
    return set(_PENDING.findall(page))


def _ensembles(models: Iterable[tuple[str, str]], *states: str) -> list[str]:
    """Return the sorted names of those models that are ensembles and in one of the states."""
    found = [name for name, state in models if state in states]
    return sorted(name for name in found if (split := name_and_model(name)) is not None and split[1] in ENSEMBLES)


def _objects(models: object) -> list[dict[str, object]]:
    """Return a list of models that Triton sent.

    Raises:
        ValueError: the value is not a list of objects.
    """
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        raise ValueError(f"expected a list of models, got {str(models)[:100]}")
    return models

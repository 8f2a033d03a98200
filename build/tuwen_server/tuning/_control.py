"""The control over the models of a server that somebody else started: Triton's model repository extension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from google.protobuf.json_format import MessageToJson
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from tuwen import Tls
from tuwen.connection import is_loopback
from tuwen_server._drain import GRPC_KEY_HEADER
from tuwen_server.errors import ModelControlError

__all__ = ["RemoteControl"]

_CONFIG_SECONDS = 10.0
_LOAD_SECONDS = 600.0  # a large model on a GPU, with its warm-up
_CONTROL_IS_OFF = "explicit model load / unload is not allowed"  # Triton's message for every other control mode
_RESTRICTED = "protocol is restricted"


class RemoteControl:
    """A client that reads and replaces the configurations of single models.

    Args:
        url: ``host:port`` of the server's gRPC endpoint.
        key: the key of the server's restricted protocols; None: the server has none.
        tls: encryption.
        headers: sent with every request.
    """

    def __init__(
        self, url: str, *, key: str | None = None, tls: Tls | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        arguments = list(tls.options()) if tls else []
        if is_loopback(url.rpartition(":")[0]):
            arguments.append(("grpc.enable_http_proxy", 0))  # a proxy cannot reach this machine's loopback
        self._url = url
        self._headers = {**(headers or {}), **({GRPC_KEY_HEADER: key} if key else {})}
        self._client = InferenceServerClient(
            url.removeprefix("grpc://"),
            ssl=tls is not None,
            creds=tls.credentials() if tls else None,
            channel_args=arguments,
        )

    def config(self, model: str) -> ModelConfig:
        """Return the configuration that a model runs with.

        Raises:
            ModelControlError: the server did not tell the configuration.
        """
        with self._typed(f"read the configuration of {model}"):
            answer = self._client.get_model_config(model, headers=self._headers, client_timeout=_CONFIG_SECONDS)
        return answer.config

    def load(self, model: str, config: ModelConfig) -> None:
        """Load a model anew with another configuration, and wait until it is ready.

        Raises:
            ModelControlError: the server refused, or could not load the model.
        """
        content = MessageToJson(config, preserving_proto_field_name=True)
        with self._typed(f"load {model}"):
            self._client.load_model(model, headers=self._headers, config=content, client_timeout=_LOAD_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    @contextmanager
    def _typed(self, action: str) -> Iterator[None]:
        try:
            yield
        except InferenceServerException as error:
            message = error.message()
            if _CONTROL_IS_OFF in message:
                advice = "start it with --model-control-mode=explicit --load-model='*'"
            elif _RESTRICTED in message:
                advice = "set TUWEN_SERVER_KEY to the key of the server's restricted protocols"
            else:
                advice = "read the server's log"
            raise ModelControlError(f"{self._url} could not {action}: {message}; {advice}") from error

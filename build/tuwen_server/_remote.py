"""Control over the models of a running server, through Triton's model repository extension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from google.protobuf.json_format import MessageToJson
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from tuwen import Tls
from tuwen.connection import channel_options, channel_target
from tuwen_server._drain import GRPC_KEY_HEADER
from tuwen_server.errors import ModelControlError

__all__ = ["RemoteControl"]

_CONFIG_SECONDS = 10.0
_LOAD_SECONDS = 600.0  # enough for a large model on a GPU, with its warm-up
_CONTROL_IS_OFF = "explicit model load / unload is not allowed"  # Triton's message for every other control mode
_RESTRICTED = "protocol is restricted"


class RemoteControl:
    """A client that loads and unloads single Triton models, and reads and replaces their configurations.

    Args:
        url: the address ``host:port`` of the server's gRPC endpoint.
        key: the key of the server's restricted protocols; None: the server has none.
        tls: the encryption of the connection; None: plain text.
        headers: the headers of every request.
    """

    def __init__(
        self, url: str, *, key: str | None = None, tls: Tls | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        target = channel_target(url)
        self._url = url
        self._headers = {**(headers or {}), **({GRPC_KEY_HEADER: key} if key else {})}
        self._client = InferenceServerClient(
            target,
            ssl=tls is not None,
            creds=tls.credentials() if tls else None,
            channel_args=channel_options(target, tls),
        )

    def config(self, model: str) -> ModelConfig:
        """Return the configuration that a model runs with.

        Raises:
            ModelControlError: the server did not return the configuration.
        """
        with self._typed(f"read the configuration of {model}"):
            answer = self._client.get_model_config(model, headers=self._headers, client_timeout=_CONFIG_SECONDS)
        return answer.config

    def load(self, model: str, config: ModelConfig | None = None, *, files: Mapping[str, bytes] | None = None) -> None:
        """Load a model and the models that it needs, and wait until it is ready.

        Args:
            model: the name of the model.
            config: the configuration with which the model is loaded; None: the one in the server's repository.
            files: the files of a model that is not in the server's repository; None: the repository has the files.

        Raises:
            ModelControlError: the server refused, or could not load the model.
        """
        content = None if config is None else MessageToJson(config, preserving_proto_field_name=True)
        with self._typed(f"load {model}"):
            self._client.load_model(
                model, headers=self._headers, config=content, files=files, client_timeout=_LOAD_SECONDS
            )

    def unload(self, model: str) -> None:
        """Begin to unload a model, and return at once.

        The model rejects new requests, and is unloaded after its last response.

        Raises:
            ModelControlError: the server refused.
        """
        with self._typed(f"unload {model}"):
            self._client.unload_model(model, headers=self._headers, client_timeout=_CONFIG_SECONDS)

    def states(self) -> dict[str, str]:
        """Return the state of every model, such as ``READY``. The state of a model that was never loaded is empty.

        Triton's index lacks loaded models that are in no repository, such as the models of an alias. Its statistics
        list all loaded models.

        Raises:
            ModelControlError: the server did not return the states.
        """
        with self._typed("list its models"):
            index = self._client.get_model_repository_index(headers=self._headers, client_timeout=_CONFIG_SECONDS)
            loaded = self._client.get_inference_statistics(headers=self._headers, client_timeout=_CONFIG_SECONDS)
        states = {model.name: model.state for model in index.models}
        return {**dict.fromkeys((model.name for model in loaded.model_stats), "READY"), **states}

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
            elif "failed to connect" in message:
                advice = "check the address (--url), and whether the server runs"
            else:
                advice = "read the server's log"
            raise ModelControlError(f"{self._url} could not {action}: {message}; {advice}") from error

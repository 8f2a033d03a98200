"""The servers of trials: a new server with a copy of the repository for each trial, or a running server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tuwen import Client, Tls
from tuwen.model_names import full_name
from tuwen_repository.manifest import Manifest
from tuwen_server import EmbeddedServer, ServerOptions, guarded_folder
from tuwen_server._remote import RemoteControl
from tuwen_server.tuning._configs import MODELS, apply, change, settings_in
from tuwen_server.tuning._settings import ENCODERS, PREPROCESSING, Settings

__all__ = ["NewServers", "RunningServer", "TrialServer"]

_TIMEOUT = 120.0


class TrialServer(Protocol):
    """A server that runs a repository with the settings of a trial."""

    def running(self, settings: Mapping[str, Settings]) -> AbstractContextManager[Client]:
        """Return a client of a server that runs the repository with these settings of each kind."""


class NewServers:
    """A `TrialServer` that starts an embedded server with a copy of the repository for each trial.

    Args:
        repository: a built repository, which is not changed. The caller has checked its files.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository.absolute()

    @contextmanager
    def running(self, settings: Mapping[str, Settings]) -> Iterator[Client]:
        """Start a server on a copy of the repository with these settings of each kind, and provide a client."""
        with guarded_folder() as folder:
            copy = Path(shutil.copytree(self._repository, folder / "repository", copy_function=_link))
            for kind, chosen in settings.items():
                apply(copy, kind, chosen)
            with (
                EmbeddedServer(copy, replace(ServerOptions.on_free_ports(), check_files=False)) as server,
                Client(server.grpc_url, model=Manifest.read(copy).name, timeout=_TIMEOUT) as clip,
            ):
                yield clip


class RunningServer:
    """A running server whose models are changed for each trial, such as NVIDIA's container on a GPU.

    The server must run with ``--model-control-mode=explicit``. The earlier models stay loaded while the models
    of a trial load, so the server needs memory for both. Nobody else should use the server during the trials.

    Args:
        url: the address ``host:port`` of the server's gRPC endpoint.
        repository: the built repository that the server runs.
        key: the key of the server's restricted protocols; None: the server has none.
        tls: the encryption of the connection; None: plain text.
        headers: the headers of every request.

    Raises (on entering):
        EmbeddingSpaceError: the server runs another repository.
        ServerError: the server cannot be reached, or refuses to load models.
    """

    def __init__(
        self,
        url: str,
        repository: Path,
        *,
        key: str | None = None,
        tls: Tls | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        manifest = Manifest.read(repository)
        self._name = manifest.name
        self._client = Client(
            url,
            model=manifest.name,
            timeout=_TIMEOUT,
            tls=tls,
            headers=headers,
            expected_fingerprint=manifest.fingerprint,
        )
        self._control = RemoteControl(url, key=key, tls=tls, headers=headers)
        self._at_start: dict[str, ModelConfig] = {}
        self._loaded: dict[str, ModelConfig] = {}
        self._kept = False

    def __enter__(self) -> RunningServer:
        self._client.embed_texts(["一只猫"])  # the response carries the fingerprint
        self._at_start = {model: self._control.config(full_name(self._name, model)) for model in MODELS}
        self._loaded = dict(self._at_start)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._kept:
                self._load(self._at_start)
        finally:
            self._client.close()
            self._control.close()

    def settings(self) -> Mapping[str, Settings]:
        """Return the settings of each kind that the server had before the trials."""
        at_start = self._at_start
        return {kind: settings_in(at_start[ENCODERS[kind]], at_start[PREPROCESSING[kind]]) for kind in ENCODERS}

    @contextmanager
    def running(self, settings: Mapping[str, Settings]) -> Iterator[Client]:
        """Load the models of the running server with these settings of each kind, and provide a client."""
        self._load(self._changed(settings))
        yield self._client

    def keep(self, settings: Mapping[str, Settings]) -> None:
        """Load these settings for good. Without this call, the server gets its earlier settings back on exit."""
        self._load(self._changed(settings))
        self._kept = True

    def _changed(self, settings: Mapping[str, Settings]) -> dict[str, ModelConfig]:
        configs = {}
        for model, config in self._at_start.items():
            changed = ModelConfig()
            changed.CopyFrom(config)
            kind, is_encoder = MODELS[model]
            if kind in settings:
                change(changed, settings[kind], is_encoder=is_encoder)
            configs[model] = changed
        return configs

    def _load(self, configs: Mapping[str, ModelConfig]) -> None:
        for model, config in configs.items():
            if self._loaded[model] != config:
                self._control.load(full_name(self._name, model), config)
                self._loaded[model] = config


def _link(source: str, target: str) -> None:
    """Make a link, because copies of weights take much space. A new configuration replaces only its link."""
    Path(target).symlink_to(source)

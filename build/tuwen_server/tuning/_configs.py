"""Functions to read and change the tuned settings in a ``config.pbtxt``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tuwen_repository.configs import find_config, read_config, write_config
from tuwen_server.tuning._settings import ENCODERS, PREPROCESSING, Settings

__all__ = ["MODELS", "apply", "change", "is_for_cpus", "limit_waiting", "settings_in", "settings_of"]

MODELS: Mapping[str, tuple[str, bool]] = {
    **{model: (kind, False) for kind, model in PREPROCESSING.items()},
    **{model: (kind, True) for kind, model in ENCODERS.items()},
}
"""The kind of each model that tuning changes, and whether the model is an encoder."""

# Triton's C++ backend and ours read this parameter. In the C++ backend, the first loaded model sets it for all models.
_THREADS = "INTRA_OP_THREAD_COUNT"


def settings_of(repository: Path, kind: str) -> Settings:
    """Return the settings of a kind, ``images`` or ``texts``, in the configurations of a repository."""
    models = (ENCODERS[kind], PREPROCESSING[kind])
    return settings_in(*(read_config(find_config(repository, model)) for model in models))


def settings_in(encoder: ModelConfig, before: ModelConfig) -> Settings:
    """Return the settings in the configurations of an encoder and of the model before it."""
    threads = encoder.parameters[_THREADS].string_value if _THREADS in encoder.parameters else "0"
    delay = encoder.dynamic_batching.max_queue_delay_microseconds
    return Settings(encoder.instance_group[0].count, int(threads), delay, before.instance_group[0].count)


def is_for_cpus(repository: Path, model: str) -> bool:
    """Return whether the build bound the models of a kind to the CPU, as for int8."""
    return bool(read_config(find_config(repository, model)).instance_group[0].kind == ModelInstanceGroup.KIND_CPU)


def apply(repository: Path, kind: str, settings: Settings) -> None:
    """Write settings into the configurations of the models of a kind, ``images`` or ``texts``."""
    for model, is_encoder in ((ENCODERS[kind], True), (PREPROCESSING[kind], False)):
        path = find_config(repository, model)
        config = read_config(path)
        before = config.SerializeToString(deterministic=True)
        change(config, settings, is_encoder=is_encoder)
        if is_encoder or config.SerializeToString(deterministic=True) != before:
            write_config(config, path)


def change(config: ModelConfig, settings: Settings, *, is_encoder: bool) -> None:
    """Put settings into the configuration of an encoder, or of the model before it."""
    if not is_encoder:
        config.instance_group[0].count = settings.preprocessing
        return
    config.instance_group[0].count = settings.instances
    config.dynamic_batching.max_queue_delay_microseconds = settings.delay_microseconds
    if settings.threads:
        config.parameters[_THREADS].string_value = str(settings.threads)
    elif _THREADS in config.parameters:
        del config.parameters[_THREADS]


def limit_waiting(repository: Path, longest: Mapping[str, float]) -> None:
    """Limit the seconds that a request may wait in the queue of a model.

    The length of the queues is not limited, because Triton 2.51 may leave a model idle for half a second while its
    queue is full.
    """
    for kind, seconds in longest.items():
        for model in (PREPROCESSING[kind], ENCODERS[kind]):
            config = read_config(find_config(repository, model))
            if config.dynamic_batching.HasField("default_queue_policy"):  # the tokenization has no queue
                config.dynamic_batching.default_queue_policy.default_timeout_microseconds = round(seconds * 1e6)
                write_config(config, find_config(repository, model))

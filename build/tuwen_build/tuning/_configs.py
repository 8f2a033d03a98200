"""The part of a ``config.pbtxt`` that tuning changes."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tuwen_build.tuning._settings import Settings

__all__ = ["apply", "is_for_cpus", "limit_queue", "settings_of"]

_THREADS = "INTRA_OP_THREAD_COUNT"  # read by Triton's pytorch backend, and by the embedded server's


def settings_of(repository: Path, model: str) -> Settings:
    """How it is run now."""
    config = _read(repository, model)
    threads = config.parameters[_THREADS].string_value if _THREADS in config.parameters else "0"
    delay = config.dynamic_batching.max_queue_delay_microseconds
    return Settings(config.instance_group[0].count, int(threads), delay)


def is_for_cpus(repository: Path, model: str) -> bool:
    """Whether the build bound it to the CPU, as int8 is."""
    return bool(_read(repository, model).instance_group[0].kind == ModelInstanceGroup.KIND_CPU)


def apply(repository: Path, model: str, settings: Settings) -> None:
    """Have it run so."""
    config = _read(repository, model)
    config.instance_group[0].count = settings.instances
    config.dynamic_batching.max_queue_delay_microseconds = settings.delay_microseconds
    if settings.threads:
        config.parameters[_THREADS].string_value = str(settings.threads)
    elif _THREADS in config.parameters:
        del config.parameters[_THREADS]
    _write(repository, model, config)


def limit_queue(repository: Path, model: str, requests: int) -> None:
    """Refuse what would make the queue longer."""
    config = _read(repository, model)
    config.dynamic_batching.default_queue_policy.max_queue_size = requests
    _write(repository, model, config)


def _path(repository: Path, model: str) -> Path:
    return repository / model / "config.pbtxt"


def _read(repository: Path, model: str) -> ModelConfig:
    return text_format.Parse(_path(repository, model).read_text(encoding="utf-8"), ModelConfig())


def _write(repository: Path, model: str, config: ModelConfig) -> None:
    path = _path(repository, model)
    head = path.read_text(encoding="utf-8").splitlines(keepends=True)[0]
    path.unlink()  # in a trial's copy it may be the same file as the original
    path.write_text(head + text_format.MessageToString(config, as_utf8=True), encoding="utf-8")

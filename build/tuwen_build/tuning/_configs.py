"""The part of a ``config.pbtxt`` that tuning changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from tuwen_build.configs import config_path, read_config, write_config
from tuwen_build.tuning._settings import ENCODERS, PREPROCESSING, Settings

__all__ = ["apply", "is_for_cpus", "limit_queues", "settings_of"]

_SHORTEST_QUEUE = 16  # requests
_THREADS = "INTRA_OP_THREAD_COUNT"  # read by Triton's pytorch backend, and by the embedded server's


def settings_of(repository: Path, model: str) -> Settings:
    """How it is run now."""
    config = read_config(config_path(repository, model))
    threads = config.parameters[_THREADS].string_value if _THREADS in config.parameters else "0"
    delay = config.dynamic_batching.max_queue_delay_microseconds
    return Settings(config.instance_group[0].count, int(threads), delay)


def is_for_cpus(repository: Path, model: str) -> bool:
    """Whether the build bound it to the CPU, as int8 is."""
    return bool(read_config(config_path(repository, model)).instance_group[0].kind == ModelInstanceGroup.KIND_CPU)


def apply(repository: Path, model: str, settings: Settings) -> None:
    """Have it run so."""
    config = read_config(config_path(repository, model))
    config.instance_group[0].count = settings.instances
    config.dynamic_batching.max_queue_delay_microseconds = settings.delay_microseconds
    if settings.threads:
        config.parameters[_THREADS].string_value = str(settings.threads)
    elif _THREADS in config.parameters:
        del config.parameters[_THREADS]
    write_config(config, config_path(repository, model))


def limit_queues(repository: Path, rates: Mapping[str, float], longest_wait: float) -> dict[str, int]:
    """Refuse what would wait longer for its turn, given the items a second of each kind.

    Returns:
        How many requests may wait, by model.
    """
    sizes = {}
    for kind, rate in rates.items():
        for model in (PREPROCESSING[kind], ENCODERS[kind]):
            sizes[model] = max(_SHORTEST_QUEUE, math.ceil(rate * longest_wait))
            config = read_config(config_path(repository, model))
            config.dynamic_batching.default_queue_policy.max_queue_size = sizes[model]
            write_config(config, config_path(repository, model))
    return sizes

"""The repository as the embedded server gets it: the built files, under configurations that suit Triton 2.51."""

from __future__ import annotations

from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tuwen_build.configs import config_path, read_config, write_config

__all__ = ["MAX_WAITING", "lay_over"]

MAX_WAITING = "MAX_WAITING_MICROSECONDS"
"""The parameter that tells our `pytorch` backend how long a request may have waited for its turn."""

_BUILT_DELAY = 100  # microseconds, as in model_repository/: it makes up for a part of what the policies cost


def lay_over(repository: Path, folder: Path) -> Path:
    """Make a repository of links to the files of a built one, in which no queue has a policy.

    With a queue policy or priorities, the batcher of Triton 2.51 is not told that an instance of a model became free.
    It looks again when the next request comes, or after 500 ms (mended by triton-inference-server/core#509, July 2026).
    Our `pytorch` backend refuses requests that waited too long instead of the queue.

    Args:
        repository: what `tuwen build` made; stays as it is.
        folder: where the new folder is made.

    Returns:
        The new folder.
    """
    overlay = folder / "repository"
    for path in sorted(repository.iterdir()):
        config = config_path(repository, path.name)
        if not config.is_file():
            continue
        (overlay / path.name).mkdir(parents=True)
        for entry in path.iterdir():
            if entry != config:
                (overlay / path.name / entry.name).symlink_to(entry)
        write_config(_without_queue_policy(read_config(config)), config_path(overlay, path.name))
    return overlay


def _without_queue_policy(config: ModelConfig) -> ModelConfig:
    batching = config.dynamic_batching
    if not batching.HasField("default_queue_policy"):
        return config
    if config.backend == "pytorch":
        config.ClearField("response_cache")  # Triton would keep the refusal as the answer to this text
        waiting = batching.default_queue_policy.default_timeout_microseconds
        config.parameters[MAX_WAITING].string_value = str(waiting)
    for field in ("default_queue_policy", "priority_queue_policy", "priority_levels", "default_priority_level"):
        batching.ClearField(field)
    if batching.max_queue_delay_microseconds == _BUILT_DELAY:
        batching.max_queue_delay_microseconds = 0
    return config

"""The repository as the embedded server gets it: the built files, under configurations that suit Triton 2.51."""

from __future__ import annotations

from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tuwen_repository.configs import config_path, read_config, write_config

__all__ = ["CACHE_BYTES", "MAX_WAITING", "lay_over"]

CACHE_BYTES = "CACHE_BYTES"
"""The parameter that gives an instance of a model under our `pytorch` backend a cache of so many bytes."""

MAX_WAITING = "MAX_WAITING_MICROSECONDS"
"""The parameter that tells our `pytorch` backend how long a request may have waited for its turn."""

_CACHED = "text_encoder"  # people send the same texts again; nobody sends the same pixels again
_MIB = 1 << 20
_BUILT_DELAY = 100  # microseconds, as in model_repository/: it makes up for a part of what the policies cost


def lay_over(repository: Path, folder: Path, *, queue_policies: bool, cache_mib: int) -> Path:
    """Make a repository of links to the files of a built one, under configurations for the embedded server.

    With a queue policy or priorities, the batcher of Triton 2.51 is not told that an instance of a model became free.
    It looks again when the next request comes, or after 500 ms (mended by triton-inference-server/core#509, July 2026).
    Our `pytorch` backend refuses requests that waited too long instead of the queue.

    The cache of texts is that of our backend, because Triton's response cache (2.51 to 26.05) keeps a failed request as
    a success without outputs, and its key is a hash of 64 bits without the shapes of the inputs.

    Args:
        repository: what `tuwen build` made; stays as it is.
        folder: where the new folder is made.
        queue_policies: keep the queue policies and priorities.
        cache_mib: memory for the vectors of texts, shared by the instances of the text encoder; 0: nothing is kept.

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
        adapted = read_config(config)
        adapted.ClearField("response_cache")  # repositories of earlier versions ask for it
        _leave_out_full_warmups(adapted)
        if not queue_policies:
            _leave_out_queue_policy(adapted)
        if cache_mib and path.name == _CACHED and adapted.backend == "pytorch":
            instances = sum(group.count for group in adapted.instance_group) or 1
            adapted.parameters[CACHE_BYTES].string_value = str(cache_mib * _MIB // instances)
        write_config(adapted, config_path(overlay, path.name))
    return overlay


def _leave_out_full_warmups(config: ModelConfig) -> None:
    """Leave out the warm-ups with more than one item: our backend computes a full batch itself, and only on a GPU."""
    if config.backend == "pytorch":
        small = [warmup for warmup in config.model_warmup if warmup.batch_size <= 1]
        del config.model_warmup[:]
        config.model_warmup.extend(small)


def _leave_out_queue_policy(config: ModelConfig) -> None:
    batching = config.dynamic_batching
    if not batching.HasField("default_queue_policy"):
        return
    if config.backend == "pytorch":
        waiting = batching.default_queue_policy.default_timeout_microseconds
        config.parameters[MAX_WAITING].string_value = str(waiting)
    for field in ("default_queue_policy", "priority_queue_policy", "priority_levels", "default_priority_level"):
        batching.ClearField(field)
    if batching.max_queue_delay_microseconds == _BUILT_DELAY:
        batching.max_queue_delay_microseconds = 0

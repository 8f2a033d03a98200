"""The repository that the embedded server loads: the built files, with configurations that suit Triton 2.51."""

from __future__ import annotations

from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tuwen_repository.configs import config_path, read_config, write_config

__all__ = ["CACHE_BYTES", "MAX_WAITING", "lay_over"]

CACHE_BYTES = "CACHE_BYTES"
"""The parameter with the size in bytes of the cache of one instance, under our `pytorch` backend."""

MAX_WAITING = "MAX_WAITING_MICROSECONDS"
"""The parameter with the maximum time in the queue, under our `pytorch` backend."""

_CACHED = "text_encoder"  # texts are often sent again; the same pixels rarely are
_MIB = 1 << 20
_BUILT_DELAY = 100  # microseconds, as in model_repository/: it offsets a part of the policies' cost


def lay_over(repository: Path, folder: Path, *, queue_policies: bool, cache_mib: int) -> Path:
    """Create a repository of links to the files of a built repository, with configurations for the embedded server.

    With a queue policy or priorities, Triton 2.51 does not wake its batcher when an instance of a model becomes free.
    The batcher wakes at the next request, or after 500 ms (fixed by triton-inference-server/core#509, July 2026).
    Instead of the queue, our `pytorch` backend rejects requests that waited too long.

    The cache of texts belongs to our backend too. Triton's response cache (2.51 to 26.05) stores a failed request as a
    success without outputs, and its key is a 64-bit hash without the shapes of the inputs.

    Args:
        repository: a folder that `tuwen build` made. It is not changed.
        folder: the parent of the new folder.
        queue_policies: whether to keep the queue policies and priorities.
        cache_mib: memory for the vectors of texts, shared by the instances of the text encoder; 0 turns the cache off.

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
        adapted.ClearField("response_cache")  # repositories of earlier versions turn it on
        _leave_out_full_warmups(adapted)
        if not queue_policies:
            _leave_out_queue_policy(adapted)
        if cache_mib and path.name == _CACHED and adapted.backend == "pytorch":
            instances = sum(group.count for group in adapted.instance_group) or 1
            adapted.parameters[CACHE_BYTES].string_value = str(cache_mib * _MIB // instances)
        write_config(adapted, config_path(overlay, path.name))
    return overlay


def _leave_out_full_warmups(config: ModelConfig) -> None:
    """Remove the warm-ups with more than one item. Our backend computes a full batch itself, and only on a GPU."""
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

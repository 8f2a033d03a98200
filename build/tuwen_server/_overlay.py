"""The repository that the embedded server loads: the built files, with configurations that suit Triton 2.51."""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tuwen.model_names import name_and_model
from tuwen_repository.configs import config_path, read_config, write_config

__all__ = ["CACHE_BYTES", "MAX_WAITING", "WEIGHTS", "Overlay"]

CACHE_BYTES = "CACHE_BYTES"
"""The parameter with the size in bytes of the cache of one instance, under our `pytorch` backend."""

MAX_WAITING = "MAX_WAITING_MICROSECONDS"
"""The parameter with the maximum time in the queue, under our `pytorch` backend."""

WEIGHTS = "WEIGHTS"
"""The parameter with the inode, the time and the size of the file of weights, under our `pytorch` backend."""

_CACHED = "text_encoder"  # texts are often sent again; the same pixels rarely are
_MIB = 1 << 20
_BUILT_DELAY = 100  # microseconds, as in model_repository/: it offsets a part of the policies' cost


class Overlay:
    """A repository with the models of built repositories, with configurations for the embedded server.

    With a queue policy or priorities, Triton 2.51 does not wake its batcher when an instance of a model becomes free.
    The batcher wakes at the next request, or after 500 ms (fixed by triton-inference-server/core#509, July 2026).
    So the queues have no policy by default, and our `pytorch` backend rejects requests that waited too long.

    Our backend also caches the vectors of texts. Triton's response cache (2.51 to 26.05) stores a failed request as a
    success without outputs, and its key is a 64-bit hash without the shapes of the inputs.

    Args:
        folder: the parent of the new folder.
        queue_policies: whether to keep the queue policies and priorities.
        cache_mib: the memory in MiB for the vectors of texts of each repository, shared by the instances of its text
            encoder; 0 turns the cache off.

    Attributes:
        folder: the new folder, which Triton reads.
    """

    def __init__(self, folder: Path, *, queue_policies: bool, cache_mib: int) -> None:
        self.folder = folder / "repository"
        self._staging = folder / "staging"
        self._queue_policies = queue_policies
        self._cache_mib = cache_mib
        self.folder.mkdir(parents=True)

    def add(self, repository: Path) -> None:
        """Add the models of a repository that `tuwen build` made, or replace earlier models of the same names.

        The repository is not changed. A server that runs an earlier model keeps this model until it is loaded again.
        """
        shutil.rmtree(self._staging, ignore_errors=True)
        for path in sorted(repository.iterdir()):
            config = config_path(repository, path.name)
            if not config.is_file():
                continue
            (self._staging / path.name).mkdir(parents=True)
            for entry in path.iterdir():
                if entry != config:
                    _take_over(entry, self._staging / path.name / entry.name)
            write_config(self._adapted(config), config_path(self._staging, path.name))
        # Encoders last: an encoder refuses weights that do not belong to its configuration, and so a load that comes
        # between the first and the last model fails.
        for path in sorted(self._staging.iterdir(), key=lambda path: (path / "1" / "model.pt").exists()):
            shutil.rmtree(self.folder / path.name, ignore_errors=True)
            path.rename(self.folder / path.name)

    def add_alias(self, config: ModelConfig) -> None:
        """Add an ensemble of an alias. If the model of a step is missing here, the ensemble is left out."""
        steps = [step.model_name for step in config.ensemble_scheduling.step]
        if steps and all((self.folder / step).is_dir() for step in steps):
            (self.folder / config.name / "1").mkdir(parents=True, exist_ok=True)
            write_config(config, config_path(self.folder, config.name))

    def _adapted(self, path: Path) -> ModelConfig:
        config = read_config(path)
        config.ClearField("response_cache")  # repositories of earlier versions turn it on
        _leave_out_full_warmups(config)
        if not self._queue_policies:
            _leave_out_queue_policy(config)
        if config.backend == "pytorch":
            _name_weights(config, path.parent)
            _, model = name_and_model(path.parent.name) or ("", path.parent.name)
            if self._cache_mib and model == _CACHED:
                instances = sum(group.count for group in config.instance_group) or 1
                config.parameters[CACHE_BYTES].string_value = str(self._cache_mib * _MIB // instances)
        return config


def _take_over(entry: Path, target: Path) -> None:
    """Link to the weights, and copy the small files of the Python models with their compiled code.

    Two ensembles may share a model. When Triton loads the second ensemble, it also reloads the shared model if the
    model's files have changed. So neither a build that replaces the repository nor Python's compiler may change a
    file here.
    """
    if not entry.is_dir() or not any(entry.glob("*.py")):
        target.symlink_to(entry)
        return
    shutil.copytree(entry, target, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(target, quiet=2)


def _name_weights(config: ModelConfig, folder: Path) -> None:
    """Tell our backend which file of weights belongs to a configuration.

    If a build replaces a repository, the weights change at once. The overlay's configurations, which hold the
    fingerprint, change a moment later.
    """
    weights = folder / "1" / (config.default_model_filename or "model.pt")
    if weights.is_file():
        found = weights.stat()
        config.parameters[WEIGHTS].string_value = f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"


def _leave_out_full_warmups(config: ModelConfig) -> None:
    """Remove the warm-ups with more than one item. On a GPU, our backend itself computes a full batch first."""
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

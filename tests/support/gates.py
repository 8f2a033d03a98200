"""A repository whose encoders wait for the test before they compute, so that the test controls the queues."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support import metrics
from tests.support.command import wait_until
from tuwen_repository.configs import config_path, read_config, write_config
from tuwen_server import EmbeddedServer, ServerOptions

__all__ = ["OPTIONS", "Gate", "with_gates"]

OPTIONS = replace(ServerOptions.on_free_ports(), check_files=False, cache_mib=0, queue_policies=True)
"""Options of a server for such a repository. The files are not checked, because the test replaces the encoders.

Queue policies are on, as on NVIDIA's newer servers."""

_PENDING = re.compile(r'^nv_inference_pending_request_count\{[^}]*model="(\w+)"[^}]*\} (\S+)$', re.MULTILINE)
# A Python model in the place of an encoder. A vector depends on its input alone, so a test can tell responses apart.
_MODEL = """
import json
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self._gate = Path(config["parameters"]["GATE"]["string_value"])
        self._seconds = float(config["parameters"]["SECONDS"]["string_value"])
        self._input = config["input"][0]["name"]
        self._dimension = int(config["output"][0]["dims"][0])

    def execute(self, requests):
        batches = [pb_utils.get_input_tensor_by_name(request, self._input).as_numpy() for request in requests]
        with (self._gate / "executed").open("a") as log:
            log.write(json.dumps([len(batch) for batch in batches]) + "\\n")
        while (self._gate / "closed").exists():
            time.sleep(0.005)
        time.sleep(self._seconds)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("embedding", self._vectors(batch))]) for batch in batches
        ]

    def _vectors(self, batch):
        vectors = np.ones((len(batch), self._dimension), dtype=np.float32)
        values = batch.reshape(len(batch), -1)[:, : self._dimension]
        vectors[:, : values.shape[1]] += values
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
"""


@dataclass(frozen=True)
class Gate:
    """The gate of one encoder. While the gate is closed, the encoder holds the batch that it has begun.

    Attributes:
        model: the name of the encoder.
        folder: the folder with the state of the gate and the log of the encoder.
    """

    model: str
    folder: Path

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Close the gate for the block. The test may open it earlier."""
        (self.folder / "executed").write_text("", encoding="utf-8")
        (self.folder / "closed").touch()
        try:
            yield
        finally:
            self.open()

    def open(self) -> None:
        """Let the encoder compute."""
        (self.folder / "closed").unlink(missing_ok=True)

    def executed(self) -> list[list[int]]:
        """Return the batches since the gate was closed, in order.

        A batch is a list with the number of items of each request.
        """
        lines = (self.folder / "executed").read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def wait_until_busy(self) -> None:
        """Wait until the encoder holds a batch."""
        wait_until(self.executed)

    def wait_until_queued(self, server: EmbeddedServer, requests: int) -> None:
        """Wait until this many requests are in the encoder's queue."""
        wait_until(lambda: dict(_PENDING.findall(metrics.text(server.metrics_url)))[self.model] == str(requests))


def with_gates(
    repository: Path, folder: Path, *, queue_size: dict[str, int] | None = None, seconds: float = 0.0
) -> dict[str, Gate]:
    """Copy a repository to ``folder/repository``, give the two encoders of the copy gates, and return the open gates.

    The rest of the copy is unchanged: ensembles, preprocessing, and the encoders' queue policies and priorities.

    Args:
        repository: a repository that `tuwen build` made.
        folder: an empty folder.
        queue_size: the largest number of queued requests, by model. It replaces the number in the model's
            configuration.
        seconds: the shortest time that an encoder takes for a batch, in seconds.
    """
    copy = Path(shutil.copytree(repository, folder / "repository"))
    gates = {}
    for model in ("vision_encoder", "text_encoder"):
        gates[model] = Gate(model, folder / f"gate of {model}")
        gates[model].folder.mkdir()
        config = read_config(config_path(copy, model))
        config.backend, config.platform, config.default_model_filename = "python", "", ""
        config.instance_group[0].kind = config.instance_group[0].KIND_CPU
        config.ClearField("model_warmup")
        config.parameters.clear()
        config.parameters["GATE"].string_value = str(gates[model].folder)
        config.parameters["SECONDS"].string_value = str(seconds)
        if model in (queue_size or {}):
            config.dynamic_batching.default_queue_policy.max_queue_size = (queue_size or {})[model]
        write_config(config, config_path(copy, model))
        (copy / model / "1" / "model.pt").unlink()
        (copy / model / "1" / "model.py").write_text(_MODEL, encoding="utf-8")
    return gates

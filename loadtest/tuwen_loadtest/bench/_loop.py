"""A process that embeds batches in a loop on request, and is idle otherwise."""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from tuwen_loadtest.bench._results import Timing
from tuwen_repository.environment import ALLOCATOR_SETTINGS, OPENMP_SETTINGS, TF32_SETTINGS
from tuwen_server.traffic import Work

__all__ = ["PEERS", "Loop", "environment", "write_work"]

PEERS = Path(".venv-bench") / "bin" / "python"
"""The Python interpreter of the environment in which the other software is installed."""
_HERE = Path(__file__).parent
# The speed of the encoder alone is the upper bound of the service, so both have the same settings.
_SERVED = {**ALLOCATOR_SETTINGS, **OPENMP_SETTINGS, **TF32_SETTINGS}
_PATIENCE = 600.0  # seconds that an answer may take in addition to the measurement


class Loop:
    """A running process of ``_loops.py``. As a context manager, it ends the process on exit.

    Attributes:
        tasks: the names of the measurements that the loop offers.
    """

    def __init__(self, name: str, source: Path, work_file: Path, threads: int) -> None:
        """Start the process.

        Raises:
            SystemExit: the process could not start; the message has its output.
        """
        self._name = name
        python = str(PEERS) if name == "sentence-transformers" else sys.executable
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - ends with the loop
        self._process = subprocess.Popen(
            [python, str(_HERE / "_loops.py"), name, str(source), str(work_file)],
            env=environment(threads) | (_SERVED if name == "encoder" else {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        self.tasks: list[str] = self._answer(_PATIENCE)

    def measure(self, task: str, *, seconds: float, batch: int = 8) -> Timing:
        """Return the measurement of a task that computes one batch after another.

        Args:
            task: one of `tasks`.
            seconds: the duration of the measurement.
            batch: the number of items in a batch.
        """
        wanted = {"task": task, "batch": batch, "seconds": seconds}
        cast("IO[bytes]", self._process.stdin).write(json.dumps(wanted).encode() + b"\n")
        return Timing(**self._answer(seconds + _PATIENCE))

    def _answer(self, seconds: float) -> Any:
        output = cast("IO[bytes]", self._process.stdout)
        answered, _, _ = select.select([output], [], [], seconds)
        line = output.readline() if answered else b""
        if not line.endswith(b"\n"):
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace")
            self.close()
            raise SystemExit(f"bench: the process of the loop '{self._name}' failed. Its output:\n{said[-2000:]}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Loop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def environment(threads: int) -> dict[str, str]:
    """Return environment variables with which a measured program computes with this number of threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}


def write_work(work: Work, path: Path) -> None:
    """Write the pictures and texts to embed into a JSON file, which the loops read."""
    images = [base64.b64encode(data).decode("ascii") for data in work.images]
    path.write_text(json.dumps({"images": images, "texts": list(work.texts)}, ensure_ascii=False), encoding="utf-8")

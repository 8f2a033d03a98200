"""A load test from beginning to end: Locust in a process of its own, repeated, with what the server did meanwhile."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuwen import ModelStatistics, TuwenError
from tuwen._statistics import difference
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._payloads import PayloadOptions
from tuwen_loadtest._samples import Sample, read_samples
from tuwen_loadtest._usage import Usage, usage_of

__all__ = ["KINDS", "LoadTestError", "Plan", "Run", "run", "served"]

KINDS: Mapping[str, str] = {
    "text": "TextSearch",
    "image": "ImageEmbedding",
    "similarity": "Similarity",
    "bulk": "BulkIndexing",
}
"""What can be asked, and the Locust user that asks it."""
_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_START_TIMEOUT = 120.0


class LoadTestError(TuwenError):
    """Locust could not run; carries what it said. Running it again may help when the server was not there."""


@dataclass(frozen=True)
class Plan:
    """One run of Locust.

    Attributes:
        connection: the server, and what opens it.
        open_loop: `users` are requests a second, at random times; else callers at the same time.
        users: how many.
        shape: over time, of `SHAPES`.
        seconds: how long, warm-up included.
        deadline: of a call, in seconds.
        kinds: what is asked; empty: Locust's mix of text, image and similarity.
        payloads: what is sent.
    """

    connection: Connection
    open_loop: bool
    users: int
    shape: str
    seconds: float
    deadline: float
    kinds: Sequence[str]
    payloads: PayloadOptions

    def command(self, samples: Path) -> list[str]:
        """The command line that runs it."""
        payloads = self.payloads
        options = {
            "--host": self.connection.url,
            "--arrivals": "poisson" if self.open_loop else "closed",
            "--users": self.users,
            "--shape": self.shape,
            "--run-time": f"{round(self.seconds)}s",
            "--stop-timeout": f"{round(self.deadline) + 5}s",
            "--deadline": self.deadline,
            "--skew": payloads.skew,
            "--seed": payloads.seed,
            "--samples": samples,
            "--exit-code-on-error": 0,
            **({"--images": payloads.images} if payloads.images else {}),
            **({"--queries": payloads.queries} if payloads.queries else {}),
        }
        flat = [str(part) for option in options.items() for part in option]
        users = [KINDS[kind] for kind in self.kinds]
        return [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless", "--only-summary", *flat, *users]


@dataclass(frozen=True)
class Run:
    """What came of a plan.

    Attributes:
        plan: it.
        samples: every single answer.
        models: what the server counted meanwhile, by model.
        generator_cpu: cores that the load generator used, on average.
        server_cpu, server_memory_mib: cores and memory of the server, where it was started for the test.
    """

    plan: Plan
    samples: Sequence[Sample]
    models: Mapping[str, ModelStatistics]
    generator_cpu: float
    server_cpu: float | None
    server_memory_mib: float | None


def run(plan: Plan, server_pid: int | None = None) -> Run:
    """Run a plan once.

    Raises:
        LoadTestError: Locust failed, or did not end.
        TuwenError: the server is not there.
    """
    with plan.connection.client(plan.deadline) as clip, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "samples.npz"
        before, used, usage, began = clip.statistics(), _children_cpu(), _usage(server_pid), time.perf_counter()
        limit = plan.seconds + plan.deadline + _START_TIMEOUT
        try:
            finished = subprocess.run(
                plan.command(file),
                env={**os.environ, **plan.connection.to_environment()},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LoadTestError(f"Locust did not end within {limit:.0f} seconds") from error
        if finished.returncode or not file.is_file():
            raise LoadTestError(f"Locust ended with {finished.returncode}:\n{finished.stderr[-2000:]}")
        seconds, after = time.perf_counter() - began, _usage(server_pid)
        return Run(
            plan,
            read_samples(file),
            difference(clip.statistics(), before),
            generator_cpu=(_children_cpu() - used) / seconds,
            server_cpu=(after.cpu_seconds - usage.cpu_seconds) / seconds if after and usage else None,
            server_memory_mib=after.memory_mib if after else None,
        )


@contextmanager
def served(target: Connection, say: Callable[[str], None]) -> Iterator[tuple[Connection, int | None]]:
    """Where the target is, and the process of its server where that was started here, for as long as the test.

    Args:
        target: a server, or in place of its address the folder of a repository.
        say: is told what is going on.
    """
    if not Path(target.url).is_dir():
        yield target, None
        return
    from tuwen_build.server import EmbeddedServer, ServerOptions  # noqa: PLC0415 - a server elsewhere needs none here

    say(f"serving {target.url}")
    with EmbeddedServer(Path(target.url), ServerOptions.on_free_ports()) as server:
        yield Connection(server.grpc_url), server.pid


def _children_cpu() -> float:
    """Of those that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _usage(pid: int | None) -> Usage | None:
    return None if pid is None else usage_of(pid)

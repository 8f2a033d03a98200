"""One run of Locust in its own process, with the statistics of the server during the run."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from tuwen import ModelStatistics, TuwenError
from tuwen.statistics import Statistics, difference
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._model_load import ModelLoad, watch_models
from tuwen_loadtest._parent import PARENT
from tuwen_loadtest._samples import Sample, read_samples
from tuwen_loadtest._target import Target
from tuwen_loadtest._watch import Reading, watch, watch_processor
from tuwen_loadtest.options import PayloadOptions, RequestKind, Shape

__all__ = ["KINDS", "LoadTestError", "Plan", "Run", "run"]

KINDS: Mapping[RequestKind, str] = {
    "text": "TextSearch",
    "image": "ImageEmbedding",
    "similarity": "Similarity",
    "bulk": "BulkIndexing",
}
"""The class of Locust users that send a kind of request, by kind."""
_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_START_TIMEOUT = 120.0
_LOCUST_STARTS = 3.0  # seconds that Locust takes to start, about


class LoadTestError(TuwenError):
    """Locust could not run, or sent no request. The message quotes the output of Locust.

    If the server was not reachable, another attempt can succeed.
    """


@dataclass(frozen=True)
class Plan:
    """The load of one run of Locust.

    Attributes:
        connection: the address and the credentials of the server.
        open_loop: whether requests come at random times and do not wait for answers.
        users: in an open loop the maximum number of requests per second, otherwise of concurrent callers.
        shape: the shape of the load over time.
        seconds: the duration of the run, with its warm-up.
        deadline: the deadline of a call in seconds.
        kinds: the kinds of requests. If empty, each user sends requests of the kinds text, image and similarity.
        payloads: the options of the pictures and queries to send.
        attempts: the maximum number of attempts of a request.
    """

    connection: Connection
    open_loop: bool
    users: int
    shape: Shape
    seconds: float
    deadline: float
    kinds: Sequence[RequestKind]
    payloads: PayloadOptions
    attempts: int = 1

    def command(self, samples: Path) -> list[str]:
        """Return the command line that runs Locust.

        Args:
            samples: the file into which Locust writes the samples.
        """
        payloads = self.payloads
        options = {
            "--host": self.connection.url,
            "--arrivals": "poisson" if self.open_loop else "closed",
            "--users": self.users,
            "--shape": self.shape,
            "--run-time": f"{round(self.seconds)}s",
            "--stop-timeout": f"{round(self.deadline) + 5}s",
            "--deadline": self.deadline,
            "--attempts": self.attempts,
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
    """The measurements of one run.

    Attributes:
        plan: the load of the run.
        samples: the samples of all requests.
        models: the statistics that the servers counted during the run, by model.
        readings: the state of the servers' machines, second by second.
        generator_cpu: the mean number of cores that the load generator used; nan if servers were restarted.
        server_cpu, server_memory_mib: the mean number of busy cores and the memory of the servers; nan for a remote
            server.
        trouble: the begin and the end of the fault, in Unix time; None without a fault that the test injected.
        loads: the work of the steps of the server, second by second.
        machine_cpu: the busy share of the processor of the load generator's machine, second by second.
    """

    plan: Plan
    samples: Sequence[Sample]
    models: Statistics
    readings: Sequence[Reading]
    generator_cpu: float
    server_cpu: float
    server_memory_mib: float
    trouble: tuple[float, float] | None = None
    loads: Sequence[ModelLoad] = ()
    machine_cpu: Sequence[float] = ()


def run(
    plan: Plan,
    target: Target,
    trouble: Callable[[], None] | None = None,
    *,
    live: Callable[[ModelLoad], None] = lambda _: None,
) -> Run:
    """Run a plan once, and inject a fault after a third of its time.

    Args:
        plan: the load of the run.
        target: the target of the load.
        trouble: a function that injects the fault, and returns when the fault has ended; None: there is no fault.
        live: a function that is called every second with the work of the server.

    Raises:
        LoadTestError: Locust failed, or did not end.
        TuwenError: the server does not respond.
    """
    with (
        watch(target.metrics) as readings,
        watch_processor() as shares,
        watch_models(target, live) as loads,
        ThreadPoolExecutor(1) as pool,
    ):
        before, usage = target.statistics(plan.deadline), target.usage()
        used, began = _children_cpu(), time.perf_counter()
        troubled = pool.submit(_later, plan.seconds / 3 + _LOCUST_STARTS, trouble) if trouble else None
        samples = _run_locust(plan)
        seconds = time.perf_counter() - began
        span = troubled.result() if troubled else None
        generator, after = _children_cpu() - used, target.usage()
        restarted = usage.keys() != after.keys()  # ended servers count as children, like Locust
        cpu = sum(after[pid].cpu_seconds - usage[pid].cpu_seconds for pid in usage) if not restarted else math.nan
        if not samples:
            raise LoadTestError(f"Locust sent no request in {plan.seconds:g} s; use a higher rate or a longer duration")
        return Run(
            plan,
            samples,
            _together([difference(*pair) for pair in zip(target.statistics(plan.deadline), before, strict=True)]),
            readings,
            generator_cpu=math.nan if restarted else generator / seconds,
            server_cpu=cpu / seconds if usage else math.nan,
            server_memory_mib=sum(one.memory_mib for one in after.values()) if usage else math.nan,
            trouble=span,
            loads=loads,
            machine_cpu=shares,
        )


def _run_locust(plan: Plan) -> Sequence[Sample]:
    limit = plan.seconds + plan.deadline + _START_TIMEOUT
    with tempfile.TemporaryDirectory(prefix="tuwen-loadtest-") as folder:
        file = Path(folder) / "samples.npz"
        try:
            finished = subprocess.run(
                plan.command(file),
                env={**os.environ, **plan.connection.to_environment(), PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LoadTestError(
                f"Locust did not end within {limit:.0f} seconds; use a lower rate, or check that the server answers"
            ) from error
        if finished.returncode or not file.is_file():
            raise LoadTestError(
                f"Locust ended with exit code {finished.returncode}. Its output:\n{finished.stderr[-2000:]}"
            )
        return read_samples(file)


def _later(seconds: float, trouble: Callable[[], None]) -> tuple[float, float]:
    time.sleep(seconds)
    begin = time.time()
    trouble()
    return begin, time.time()


def _together(servers: Sequence[Statistics]) -> Statistics:
    names = {name for counted in servers for name in counted}
    return {
        name: ModelStatistics(
            *(sum(getattr(counted[name], field.name) for counted in servers) for field in fields(ModelStatistics))
        )
        for name in sorted(names)
    }


def _children_cpu() -> float:
    """Return the CPU seconds of child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

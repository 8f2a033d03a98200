"""Starts each contestant, and measures it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tuwen import AsyncClient, Client, RetryPolicy
from tuwen._statistics import difference
from tuwen_build.allocation import ALLOCATOR_SETTINGS
from tuwen_build.server import EmbeddedServer, ServerOptions
from tuwen_build.traffic import CALLERS, Answers, Ask, Work, saturate, send_at
from tuwen_build.tuning import ENCODERS
from tuwen_loadtest._usage import usage_of

__all__ = ["Plan", "Service", "Step", "measure_litserve", "measure_service", "run_loop", "write_work"]

_HERE = Path(__file__).parent
_PEERS = Path(".venv-bench") / "bin" / "python"
_TIMEOUT = 30.0
_START_TIMEOUT = 300.0
_LOADS = (0.5, 0.8, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Plan:
    """How long each measurement takes, in seconds, and with how many threads a contestant computes."""

    seconds: float
    warmup: float
    threads: int


@dataclass(frozen=True)
class Step:
    """What came of one offered rate, as a multiple of the throughput at saturation; `batch` as of `Service`."""

    load: float
    offered: float
    answers: Answers
    batch: float


@dataclass(frozen=True)
class Service:
    """What one kind of items costs in our service.

    Attributes:
        ready_seconds, memory: of the start, both kinds together.
        alone: one caller.
        saturated: many.
        batch: items of a batch that the encoder formed under saturation.
        cpu_seconds: of the whole server for one item, under saturation.
        steps: at offered rates up to four times the saturation.
        cached: one caller, the same text again; empty for images.
    """

    ready_seconds: float
    memory_mib: float
    alone: Answers
    saturated: Answers
    batch: float
    cpu_seconds: float
    steps: Sequence[Step] = ()
    cached: Answers | None = None


def run_loop(loop: str, source: Path, work_file: Path, threads: int, seconds: float) -> dict[str, Any]:
    """One of `_loops`, in a process of its own."""
    python = sys.executable if loop in ("encoder", "transformers") else str(_PEERS)
    environment = _environment(threads)
    if loop == "encoder":  # the limit is that of the same memory allocation
        environment |= ALLOCATOR_SETTINGS
    command = [python, str(_HERE / "_loops.py"), loop, str(source), str(work_file), str(seconds)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    if finished.returncode:
        raise SystemExit(f"bench: the loop {loop} failed:\n{finished.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


def _environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}


def write_work(work: Work, path: Path) -> None:
    """The work as the loops read it."""
    images = [base64.b64encode(data).decode("ascii") for data in work.images]
    path.write_text(json.dumps({"images": images, "texts": list(work.texts)}, ensure_ascii=False), encoding="utf-8")


def measure_service(repository: Path, work: Work, plan: Plan) -> Mapping[str, Service]:
    """Our own: images, then texts."""
    with ExitStack() as stack:
        begun = time.perf_counter()
        server = stack.enter_context(EmbeddedServer(repository, ServerOptions.on_free_ports()))
        ready = time.perf_counter() - begun
        memory = usage_of(server.pid).memory_mib
        clip = stack.enter_context(Client(server.grpc_url, timeout=_TIMEOUT, retries=RetryPolicy(attempts=1)))
        found = {}
        for kind, model in ENCODERS.items():
            ask = work.ask(kind, clip)
            alone = saturate(ask, concurrency=1, seconds=plan.seconds, warmup=plan.warmup)
            before, used = clip.statistics(), usage_of(server.pid).cpu_seconds
            saturated = saturate(ask, concurrency=CALLERS[kind], seconds=plan.seconds, warmup=plan.warmup)
            cpu, done = usage_of(server.pid).cpu_seconds - used, difference(clip.statistics(), before)[model]
            found[kind] = Service(
                ready,
                memory,
                alone,
                saturated,
                batch=done.mean_batch_size,
                cpu_seconds=cpu / max(1, done.items),
                steps=asyncio.run(_steps(server.grpc_url, kind, work, saturated.rate, plan)),
                cached=_cached(clip, plan) if kind == "texts" else None,
            )
        return found


def _cached(clip: Client, plan: Plan) -> Answers:
    return saturate(lambda: clip.embed_texts(["一只猫"]), concurrency=1, seconds=plan.seconds, warmup=plan.warmup)


async def _steps(url: str, kind: str, work: Work, capacity: float, plan: Plan) -> Sequence[Step]:
    steps = []
    async with AsyncClient(url, timeout=_TIMEOUT, retries=RetryPolicy(attempts=1)) as clip:
        for load in _LOADS:
            before = await clip.statistics()
            answers = await send_at(load * capacity, work.async_ask(kind, clip), seconds=2 * plan.seconds)
            done = difference(await clip.statistics(), before)[ENCODERS[kind]]
            steps.append(Step(load, load * capacity, answers, done.mean_batch_size))
    return steps


def measure_litserve(checkpoint: Path, work: Work, plan: Plan) -> Mapping[str, Answers]:
    """LitServe: images, then texts."""
    with _litserve(checkpoint, plan.threads) as url, httpx.Client(base_url=url, timeout=_TIMEOUT) as http:

        def post(path: str, content: dict[str, str]) -> None:
            http.post(path, json=content).raise_for_status()

        asks: dict[str, Ask] = {
            "images": lambda: post("/image", {"image": base64.b64encode(work.next_image()).decode("ascii")}),
            "texts": lambda: post("/text", {"text": work.next_text()}),
        }
        return {
            kind: saturate(ask, concurrency=CALLERS[kind], seconds=plan.seconds, warmup=plan.warmup)
            for kind, ask in asks.items()
        }


@contextmanager
def _litserve(checkpoint: Path, threads: int) -> Iterator[str]:
    port = ServerOptions.on_free_ports().with_ports_resolved().http_port
    url = f"http://127.0.0.1:{port}"
    command = [str(_PEERS), str(_HERE / "_peer_server.py"), str(checkpoint), str(port)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=_environment(threads), stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        _wait_until_healthy(url, process)
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"bench: LitServe ended with {process.returncode}")
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise SystemExit("bench: LitServe did not become healthy")

"""Prometheus scrapes the real server; each alert fires when its cause is provoked; every panel shows something."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.support.prometheus import ALERTS, DASHBOARD, Prometheus, program
from tests.support.servers import RecordedServer
from tuwen import AsyncClient, RetryPolicy, TuwenError
from tuwen_build.server import EmbeddedServer, ServerOptions
from tuwen_build.traffic import photographs

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(program("prometheus") is None, reason="Prometheus is not there"),
    pytest.mark.filterwarnings("ignore::tuwen.TextTruncatedWarning"),
]
OPTIONS = replace(ServerOptions.on_free_ports(), arguments=("--metrics-config=summary_latencies=true",))
PATIENCE = 90.0

Ask = Callable[[AsyncClient], Awaitable[object]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """With our rules, in which hours are minutes and minutes seconds.

    The minute over which Triton takes its quantiles stays one, so that a single slow request is one in a hundred for
    long; two seconds are none that a calm server needs.
    """
    rules = ALERTS.read_text(encoding="utf-8").replace("vector(0.5)", "vector(2)")
    rules = re.sub(r"\b(\d+)m\b", r"\1s", rules)
    with Prometheus(tmp_path_factory.mktemp("prometheus"), re.sub(r"\b(\d+)h\b", r"\1m", rules)) as running:
        yield running


@contextlib.contextmanager
def asking(server: EmbeddedServer, ask: Ask, *, callers: int = 1, timeout: float = 30.0) -> Iterator[None]:
    """Callers who ask again and again, whatever they are told."""
    stop = threading.Event()

    async def call(clip: AsyncClient) -> None:
        while not stop.is_set():
            try:
                await ask(clip)
            except TuwenError:
                await asyncio.sleep(0.05)

    async def all_of_them() -> None:
        async with AsyncClient(server.grpc_url, timeout=timeout, retries=RetryPolicy(attempts=1)) as clip:
            await asyncio.gather(*(call(clip) for _ in range(callers)))

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_for(prometheus: Prometheus, *alerts: str) -> None:
    start = time.monotonic()
    while missing := set(alerts) - prometheus.firing():
        assert time.monotonic() - start < PATIENCE, f"{missing} did not fire; {prometheus.firing()} did"
        time.sleep(0.2)
    print(f"{', '.join(alerts)}: after {time.monotonic() - start:.1f} s")


def metrics_address(server: EmbeddedServer) -> str:
    return server.metrics_url.removeprefix("http://").removesuffix("/metrics")


def test_every_cause_has_its_alert_and_every_panel_its_data(repository: Path, prometheus: Prometheus) -> None:
    numbers = itertools.count()
    small, large = photographs(1, size=(64, 64)), photographs(1, size=(1600, 1200))

    def known(clip: AsyncClient) -> Awaitable[object]:
        return clip.embed_texts([f"第{next(numbers) % 50}只猫"])

    def new(clip: AsyncClient) -> Awaitable[object]:
        return clip.embed_texts([f"第{next(numbers)}只狗"])

    with RecordedServer(repository, OPTIONS) as server:
        prometheus.watch(metrics_address(server))
        with asking(server, known), asking(server, lambda clip: clip.embed_images(small)):
            time.sleep(15)
            assert prometheus.firing() == set()
        with asking(server, new):
            wait_for(prometheus, "TuwenCacheCold")
        with asking(server, lambda clip: clip.embed_texts(["长" * 100])):
            wait_for(prometheus, "TuwenTextsCut")
        with asking(server, lambda clip: clip.embed_images([b"no image"])):
            wait_for(prometheus, "TuwenUnreadableImages")
        with asking(server, lambda clip: clip.embed_images(large), callers=150, timeout=60):
            wait_for(prometheus, "TuwenQueueGrowing", "TuwenSlow")
        with asking(server, lambda clip: clip.embed_images(large), callers=150, timeout=1):
            wait_for(prometheus, "TuwenRefusing")
            refusals = panels_without_data(prometheus)
        with asking(server, known), asking(server, lambda clip: clip.embed_images([small[0], b"no image"])):
            time.sleep(5)
            assert panels_without_data(prometheus) & refusals == set()
        kill_encoder(server)
        with asking(server, lambda clip: clip.embed_images(small)):
            wait_for(prometheus, "TuwenFailing")
    wait_for(prometheus, "TuwenDown")
    prometheus.watch()
    wait_for(prometheus, "TuwenAbsent")


def test_a_repository_without_batching_is_noticed(repository: Path, prometheus: Prometheus, tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(repository, copy)
    for config in copy.glob("*/config.pbtxt"):
        text = config.read_text(encoding="utf-8")
        config.write_text(re.sub(r"max_batch_size: \d+", "max_batch_size: 1", text), encoding="utf-8")
    numbers = itertools.count()
    with RecordedServer(copy, OPTIONS) as server:
        prometheus.watch(metrics_address(server))
        with asking(server, lambda clip: clip.embed_texts([f"第{next(numbers)}只猫"]), callers=64):
            wait_for(prometheus, "TuwenBatchesOfOne")


def panels_without_data(prometheus: Prometheus) -> set[str]:
    found = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "30s").replace("$instance", ".+")
            if "nv_gpu" not in expression and not prometheus.query(expression):  # GPUs: there may be none here
                found.add(f"{panel['title']}: {expression}")
    return found


def kill_encoder(server: EmbeddedServer) -> None:
    """The Python process of a model dies, which Triton 2.51 does not notice."""
    children = psutil.Process(server.pid).children(recursive=True)
    [stub] = [child for child in children if "vision_encoder_0_0" in child.cmdline()]
    stub.kill()

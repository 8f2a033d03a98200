"""With Prometheus and the real server, each alert fires for its cause, and every dashboard panel has data.

The encoders have gates, so that a queue grows because a gate is closed, and not because this machine is slow.
`tests/unit/deployment` tests the thresholds of the alerts on known numbers, with promtool.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml

from tests.support import gates
from tests.support.command import wait_until
from tests.support.prometheus import ALERTS, DASHBOARD, EVERY_ALERT, Prometheus, program
from tests.support.servers import RecordedServer
from tests.support.simulated_metrics import SimulatedMetrics, alert_cases
from tuwen import AsyncClient, RetryPolicy, TuwenError
from tuwen_server import EmbeddedServer
from tuwen_server.traffic import photographs

pytestmark = [
    pytest.mark.alone,
    pytest.mark.provokes_trouble,
    pytest.mark.skipif(program("prometheus") is None, reason="Prometheus is not installed"),
    pytest.mark.filterwarnings("ignore::tuwen.TextTruncatedWarning"),
]
OPTIONS = replace(gates.OPTIONS, arguments=("--metrics-config=summary_latencies=true",))
PATIENCE = 240.0
CAUSES = {
    "missing pods": "TuwenReplicasMissing",
    "a container that restarts": "TuwenRestarting",
    "a GPU that is gone": "TuwenGpuMissing",
    "an encoder that fails": "TuwenFailing",
    "a full server": "TuwenRefusing",
    "a server that does not answer, and another release beside it": "TuwenDown",
}
"""The test cases of `docker/monitoring/alerts_test.yaml` that a real Prometheus sees too, with the alert that fires."""

Ask = Callable[[AsyncClient], Awaitable[object]]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Yield a Prometheus with the project's alert rules, sped up 60 times.

    In the rules, hours become minutes and minutes become seconds. Triton's quantiles still cover one minute.
    """
    rules = re.sub(r"\b(\d+)m\b", r"\1s", ALERTS.read_text(encoding="utf-8"))
    with Prometheus(tmp_path_factory.mktemp("prometheus"), re.sub(r"\b(\d+)h\b", r"\1m", rules)) as running:
        yield running


@contextlib.contextmanager
def asking(server: EmbeddedServer, ask: Ask, *, callers: int = 1, timeout: float = PATIENCE) -> Iterator[None]:
    """Run callers in a thread until the context manager exits. Errors of the SDK are ignored.

    Args:
        server: the server to call.
        ask: a function that makes one call.
        callers: the number of concurrent callers, each of which makes at most 20 calls a second.
        timeout: the timeout of a call, in seconds.
    """
    stop = threading.Event()

    async def call(clip: AsyncClient) -> None:
        while not stop.is_set():
            with contextlib.suppress(TuwenError):
                await ask(clip)
            await asyncio.sleep(0.05)

    async def all_of_them() -> None:
        once = RetryPolicy(attempts=1)
        async with AsyncClient(server.grpc_url, timeout=timeout, retries=once, remembered_texts=0) as clip:
            await asyncio.gather(*(call(clip) for _ in range(callers)))

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_for(prometheus: Prometheus, *alerts: str) -> None:
    """Wait until all given alerts fire, at most `PATIENCE` seconds."""
    wait_until(lambda: set(alerts) <= prometheus.firing(), seconds=PATIENCE)


def scrapes(prometheus: Prometheus) -> int:
    """Return the number of times that Prometheus scraped its targets in the last two minutes."""
    found = prometheus.query('sum(count_over_time(up{job="tuwen"}[2m]))')
    return int(found[0]["value"][1]) if found else 0


def metrics_address(server: EmbeddedServer) -> str:
    return server.metrics_url.removeprefix("http://").removesuffix("/metrics")


def test_every_alert_fires_for_its_cause_and_every_panel_has_data(
    repository: Path, prometheus: Prometheus, tmp_path: Path
) -> None:
    numbers = itertools.count()
    images = photographs(1, size=(64, 64))
    gate = gates.with_gates(repository, tmp_path)["vision_encoder"]

    def text(clip: AsyncClient) -> Awaitable[object]:
        return clip.embed_texts([f"第{next(numbers)}只猫"])

    with RecordedServer(tmp_path / "repository", OPTIONS) as server:
        prometheus.watch(metrics_address(server))
        with asking(server, text), asking(server, lambda clip: clip.embed_images(images)):
            wait_until(lambda: scrapes(prometheus) >= 40, seconds=PATIENCE)
            # TuwenSlow may fire, because it depends on the speed of this machine; promtool tests the alert.
            wait_until(lambda: prometheus.firing() <= {"TuwenSlow"}, seconds=PATIENCE)
        with asking(server, lambda clip: clip.embed_texts(["长" * 100])):
            wait_for(prometheus, "TuwenTextsCut")
        with asking(server, lambda clip: clip.embed_images([b"no image"])):
            wait_for(prometheus, "TuwenUnreadableImages")
        with asking(server, lambda clip: clip.embed_images(images), callers=150), gate.closed():
            wait_for(prometheus, "TuwenQueueGrowing")
        with asking(server, lambda clip: clip.embed_images(images), callers=50, timeout=1), gate.closed():
            wait_for(prometheus, "TuwenRefusing")
            refusals = panels_without_data(prometheus)
        with asking(server, text), asking(server, lambda clip: clip.embed_images([images[0], b"no image"])):
            wait_until(lambda: not panels_without_data(prometheus) & refusals, seconds=PATIENCE)
        kill_encoder(server)
        with asking(server, lambda clip: clip.embed_images(images)):
            wait_for(prometheus, "TuwenFailing")
    wait_for(prometheus, "TuwenDown")
    prometheus.watch()
    wait_for(prometheus, "TuwenAbsent")


def test_an_alert_fires_for_a_repository_without_batching(
    repository: Path, prometheus: Prometheus, tmp_path: Path
) -> None:
    gates.with_gates(repository, tmp_path, seconds=0.02)
    for config in (tmp_path / "repository").glob("*/config.pbtxt"):
        text = config.read_text(encoding="utf-8")
        config.write_text(re.sub(r"max_batch_size: \d+", "max_batch_size: 1", text), encoding="utf-8")
    numbers = itertools.count()
    with RecordedServer(tmp_path / "repository", OPTIONS) as server:
        prometheus.watch(metrics_address(server))
        with asking(server, lambda clip: clip.embed_texts([f"第{next(numbers)}只猫"]), callers=64):
            wait_for(prometheus, "TuwenBatchesOfOne")


def rules_of(*releases: str) -> str:
    """Return the rules of releases, as the chart renders them, sped up 60 times."""
    from tests.support.chart import rendered

    groups = []
    for release in releases:
        for group in rendered(EVERY_ALERT, release)["PrometheusRule"]["spec"]["groups"]:
            groups.append({**group, "name": f"{group['name']} of {release}"})
    rules = re.sub(r"\b(\d+)m\b", r"\1s", yaml.safe_dump({"groups": groups}, width=1_000_000))
    return re.sub(r"\b(\d+)h\b", r"\1m", rules)


def wait_for_a_silent_hour(prometheus: Prometheus, metrics: SimulatedMetrics) -> None:
    """Wait for a simulated hour without an alert.

    If Prometheus missed a scrape, it saw no server, and an alert may have fired. Then the next hour is checked.
    """
    for end in (180, 235):  # the hour of a rollout, and the hour of a bulk job
        wait_until(lambda end=end: metrics.minute >= end, seconds=PATIENCE)
        fired = prometheus.query('count_over_time(ALERTS{alertstate="firing"}[60s])')
        if not fired:
            return
        [found] = prometheus.query(f'min_over_time(up{{instance="{metrics.address}"}}[60s])')
        assert found["value"][1] == "0", fired
    pytest.skip("Prometheus missed scrapes in each hour, because this machine is too busy")


def test_two_releases_are_silent_for_an_hour_and_then_each_cause_fires_in_its_own_release(tmp_path: Path) -> None:
    """No alert fires during bad pictures, a rollout or a bulk job. Later, each cause fires an alert.

    The alert fires in one release only. Each second is a simulated minute.
    """
    pytest.importorskip("helm_python", reason="real Helm comes for Linux only")
    cases = alert_cases()
    healthy, *_ = cases.values()
    with SimulatedMetrics() as metrics, Prometheus(tmp_path, rules_of("clip", "clip-2")) as prometheus:
        metrics.show(healthy, minute=100)
        prometheus.watch(metrics.address)
        wait_for_a_silent_hour(prometheus, metrics)
        assert prometheus.query("count(tuwen:requests:rate5m)")[0]["value"][1] == "2"
        for name, alert in CAUSES.items():
            metrics.show(cases[name])
            wait_until(lambda alert=alert: alert in prometheus.firing(release="clip"), seconds=PATIENCE)
            assert alert not in prometheus.firing(release="clip-2")


def panels_without_data(prometheus: Prometheus) -> set[str]:
    """Return the dashboard's queries without a result, except queries about GPUs, which the machine may lack."""
    found = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "30s").replace("$instance", ".+")
            expression = re.sub(r"\$(namespace|release)", ".*", expression)
            if "nv_gpu" not in expression and not prometheus.query(expression):
                found.add(f"{panel['title']}: {expression}")
    return found


def kill_encoder(server: EmbeddedServer) -> None:
    """Kill the Python process of the image encoder. Triton 2.51 still reports that the model is ready."""
    children = psutil.Process(server.pid).children(recursive=True)
    [stub] = [child for child in children if "vision_encoder_0_0" in child.cmdline()]
    stub.kill()

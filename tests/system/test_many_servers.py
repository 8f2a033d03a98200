"""Two servers behind one name: calls spread over both, and none fails while one of them is taken away."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.blocking import Blocking
from tests.support.command import TUWEN, wait_until
from tests.support.name_server import NameServer
from tuwen import AsyncClient, Client
from tuwen_build.server import ServerOptions

pytestmark = pytest.mark.alone

HOSTS = ["127.0.0.1", "127.0.0.2"]


class Fleet:
    """A `tuwen serve` on each host, all on one port."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self.port = ServerOptions.on_free_ports().with_ports_resolved().grpc_port
        self.processes = {host: self._start(host) for host in HOSTS}
        for host in HOSTS:
            self.wait_for(host)

    def _start(self, host: str) -> subprocess.Popen[bytes]:
        ports = replace(ServerOptions.on_free_ports(), host=host).with_ports_resolved()
        command = [TUWEN, "serve", str(self._repository), "--host", host, "--grpc-port", str(self.port)]
        command += ["--http-port", str(ports.http_port), "--metrics-port", str(ports.metrics_port)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def restart(self, host: str) -> None:
        self.processes[host] = self._start(host)

    def wait_for(self, host: str) -> None:
        with Client(f"{host}:{self.port}") as clip:
            wait_until(clip.is_ready, running=self.processes[host])

    def requests(self, host: str) -> int:
        with Client(f"{host}:{self.port}") as clip:
            return clip.statistics()["text_embedding"].requests

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
            process.wait(60)


@pytest.fixture
def fleet(repository: Path) -> Iterator[Fleet]:
    running = Fleet(repository)
    yield running
    running.stop()


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer(HOSTS) as running:
        yield running


def test_calls_spread_and_none_fails_while_a_server_is_drained(fleet: Fleet, names: NameServer) -> None:
    target = names.target("clip.search.svc", fleet.port)
    failures: list[BaseException] = []
    finished = 0
    stop = threading.Event()

    def work(number: int) -> None:
        nonlocal finished
        clip = Client(target) if number % 2 else Blocking(lambda: AsyncClient(target))
        with clip:
            expected = clip.embed_texts([f"第{number}句"])
            while not stop.is_set():
                try:
                    found = clip.embed_texts([f"第{number}句"])
                    assert np.abs(found - expected).max() < 1e-5
                    finished += 1
                except BaseException as error:
                    failures.append(error)
                    return

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    try:
        time.sleep(2)
        shares = [fleet.requests(host) for host in HOSTS]
        drained = fleet.processes[HOSTS[1]]
        drained.send_signal(signal.SIGTERM)
        assert drained.wait(60) == 0
        at_the_drain = finished
        time.sleep(2)
        while_it_was_away = finished - at_the_drain
        fleet.restart(HOSTS[1])
        fleet.wait_for(HOSTS[1])
        before = fleet.requests(HOSTS[1])
        wait_until(lambda: fleet.requests(HOSTS[1]) >= before + 20)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert failures == []
    assert min(shares) > 0.3 * sum(shares)
    assert while_it_was_away > 20

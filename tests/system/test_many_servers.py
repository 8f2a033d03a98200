"""Tests of two servers behind one DNS name: calls are spread, and no call fails while a server restarts."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.blocking import Blocking
from tests.support.command import TUWEN, wait_until
from tests.support.name_server import NameServer
from tests.support.repositories import Built
from tuwen import AsyncClient, Client, EmbeddingSpaceError
from tuwen_build.options import BuildOptions
from tuwen_server import ServerOptions

HOSTS = ["127.0.0.1", "127.0.0.2"]
IMAGES = [np.full((40, 30, 3), shade, dtype=np.uint8) for shade in (0, 90, 250)]
TEXTS = ["一只猫", "一只狗"]


class Fleet:
    """A `tuwen serve` process on each of `HOSTS`, all on the same port, until the context manager exits.

    Args:
        repository: the repository that the hosts serve.
        others: by host, another repository for this host; None: all hosts serve `repository`.
    """

    def __init__(self, repository: Path, others: Mapping[str, Path] | None = None) -> None:
        self._repositories = dict.fromkeys(HOSTS, repository) | dict(others or {})
        self.port = ServerOptions.on_free_ports().with_ports_resolved().grpc_port
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Fleet:
        try:
            for host in HOSTS:
                self.start(host)
            for host in HOSTS:
                self.wait_for(host)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(60)

    def start(self, host: str) -> None:
        """Start the server of a host. A server that has ended may be started again."""
        ports = replace(ServerOptions.on_free_ports(), host=host).with_ports_resolved()
        command = [TUWEN, "serve", str(self._repositories[host]), "--host", host, "--grpc-port", str(self.port)]
        command += ["--http-port", str(ports.http_port), "--metrics-port", str(ports.metrics_port)]
        self.processes[host] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def wait_for(self, host: str) -> None:
        """Wait until the server of a host is ready."""
        with Client(f"{host}:{self.port}") as clip:
            wait_until(clip.is_ready, running=self.processes[host])

    def requests(self, host: str) -> int:
        """Return the number of text requests that the server of a host has answered since its start."""
        with Client(f"{host}:{self.port}") as clip:
            return clip.statistics()["text_embedding"].requests


@pytest.fixture
def fleet(repository: Path) -> Iterator[Fleet]:
    with Fleet(repository) as running:
        yield running


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer(HOSTS) as running:
        yield running


class Callers:
    """Threads that embed texts without a pause until the context manager exits.

    Half of the threads use `Client`, and half use `AsyncClient`.

    Attributes:
        failures: the exceptions of failed calls. A thread ends at its first failure.
    """

    def __init__(self, target: str, threads: int = 8) -> None:
        self.failures: list[BaseException] = []
        self._target = target
        self._answers = [0] * threads
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._embed, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self, count: int) -> None:
        """Wait until the given number of further calls have been answered, or a call has failed."""
        goal = sum(self._answers) + count
        wait_until(lambda: self.failures or sum(self._answers) >= goal)

    def _embed(self, number: int) -> None:
        try:
            with Client(self._target) if number % 2 else Blocking(lambda: AsyncClient(self._target)) as clip:
                expected = clip.embed_texts([f"第{number}句"])
                while not self._stop.is_set():
                    found = clip.embed_texts([f"第{number}句"])
                    assert np.abs(found - expected).max() < 1e-5
                    self._answers[number] += 1
        except BaseException as error:
            self.failures.append(error)


def test_calls_are_spread_and_none_fails_while_a_server_restarts(fleet: Fleet, names: NameServer) -> None:
    with Callers(names.target("clip.search.svc", fleet.port)) as callers:
        wait_until(lambda: callers.failures or min(fleet.requests(host) for host in HOSTS) >= 20)
        before = [fleet.requests(host) for host in HOSTS]
        callers.wait_for_answers(400)
        shares = [fleet.requests(host) - then for host, then in zip(HOSTS, before, strict=True)]
        drained = fleet.processes[HOSTS[1]]
        drained.send_signal(signal.SIGTERM)
        assert drained.wait(60) == 0
        callers.wait_for_answers(100)  # the other server answers them
        fleet.start(HOSTS[1])
        fleet.wait_for(HOSTS[1])
        wait_until(
            lambda: callers.failures or fleet.requests(HOSTS[1]) >= 20
        )  # the callers use the restarted server again
    assert callers.failures == []
    assert sum(shares) >= 400
    assert min(shares) > 0.3 * sum(shares)


def test_two_models_behind_one_name_never_give_a_wrong_vector(
    repository: Path, minimal_checkpoint: Path, built: Built, names: NameServer
) -> None:
    """If two servers behind one name have different models, a client gets right vectors or an `EmbeddingSpaceError`.

    The two models differ in weights, dimension and image size.
    """
    other = built.of(minimal_checkpoint, "minimal-repository", BuildOptions())
    right, refused, wrong = 0, 0, []
    with Fleet(repository, {HOSTS[1]: other}) as fleet:
        expected = {}
        for host in HOSTS:
            with Client(f"{host}:{fleet.port}") as clip:
                expected[clip.model_card().fingerprint] = (clip.embed_images(IMAGES), clip.embed_texts(TEXTS))
        target = names.target("clip.search.svc", fleet.port)
        for number in range(200):
            mode = "client" if number % 2 else "server"
            with (
                Client(target, preprocess=mode, remembered_texts=0)
                if number % 4 < 2
                else Blocking(lambda mode=mode: AsyncClient(target, preprocess=mode, remembered_texts=0))
            ) as clip:
                fingerprint = clip.model_card().fingerprint
                calls = (clip.embed_images, IMAGES, 0), (clip.embed_texts, TEXTS, 1)
                for call, items, which in calls * 3:
                    try:
                        found = call(items)
                    except EmbeddingSpaceError:
                        refused += 1
                        continue
                    vectors = expected[fingerprint][which]
                    if found.shape == vectors.shape and np.abs(found - vectors).max() < 1e-4:
                        right += 1
                    else:
                        wrong.append((number, mode))
    assert wrong == []
    assert right + refused == 1200
    assert min(right, refused) >= 100

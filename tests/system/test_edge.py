"""Tests of Envoy with the chart's configuration in front of two real servers, with and without mutual TLS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from tests.support.chart import rendered
from tests.support.command import wait_until
from tests.support.envoy import ENVOY, Edge, Fleet, write_secret
from tuwen import Client, RetryPolicy, ServerError, Tls
from tuwen_server import ServerOptions
from tuwen_server._runtime import find_runtime

pytestmark = pytest.mark.skipif(not ENVOY.exists(), reason="Envoy is not installed; its package exists for Linux only")
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(scope="module", params=["plain", "mutual TLS"])
def secret(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    if request.param == "plain":
        return None
    folder = tmp_path_factory.mktemp("secret") / "tls"
    write_secret(folder)
    return folder


@pytest.fixture(scope="module")
def fleet(repository: Path, secret: Path | None) -> Iterator[Fleet]:
    tls = {"tls": {"secret": "clip-tls", "mutual": True}} if secret else {}
    # Connections end every ten seconds, so that a short test shows whether a caller notices this.
    with Fleet(repository, secret, values={**tls, "server": {"maxConnectionAgeSeconds": 10}}) as running:
        yield running


@pytest.fixture(scope="module")
def edge(fleet: Fleet, secret: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    values = {"server": {"maxConnectionAgeSeconds": 10}}
    with Edge(fleet, tmp_path_factory.mktemp("edge"), secret, values) as running:
        wait_until(lambda: running.members("healthy") == 2)
        yield running


def test_the_helm_test_of_the_chart_passes(edge: Edge, secret: Path | None) -> None:
    chosen = {"tls": {"secret": "clip-tls", "mutual": True}} if secret else {}
    [container] = rendered(chosen)["Pod/test"]["spec"]["containers"]
    [program] = container["args"]
    program = program.replace("dns:///clip-tuwen-headless.search.svc:8001", edge.url)
    program = program.replace("/tls/", f"{secret}/")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "family='chinese-clip'" in done.stdout
    assert "cosine" in done.stdout


def test_the_arguments_of_a_pod_start_a_server(repository: Path, tmp_path: Path) -> None:
    """The embedded tritonserver starts with the arguments that the chart gives to a pod's container.

    TLS is enabled, without client certificates.
    """
    chosen = {
        "tls": {"secret": "clip-tls"},
        "tracing": {"enabled": True, "url": "http://127.0.0.1:9/v1/traces"},
        "server": {"extraArguments": ["--log-verbose=0"]},
    }
    [container] = rendered(chosen)["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["tritonserver"]
    secret, other = tmp_path / "tls", tmp_path / "other"
    write_secret(secret)
    write_secret(other)
    free, runtime = ServerOptions.on_free_ports().with_ports_resolved(), find_runtime()
    runtime.assemble_backends(tmp_path / "backends")
    places = {"=/models": f"={repository}", "=/tls/": f"={secret}/", "$(RESTRICTED_KEY)": "the-key-of-the-test"}
    arguments = list(container["args"])
    for old, new in places.items():
        arguments = [argument.replace(old, new) for argument in arguments]
    arguments += [
        f"--backend-directory={tmp_path / 'backends'}",
        f"--http-port={free.http_port}",
        f"--grpc-port={free.grpc_port}",
        f"--metrics-port={free.metrics_port}",
    ]
    log = (tmp_path / "log").open("w")
    with subprocess.Popen(
        [runtime.binary, *arguments],
        env=runtime.environment(tmp_path / "backends"),
        stdout=log,
        stderr=log,
        start_new_session=True,
    ) as process:
        try:
            url, ca = f"localhost:{free.grpc_port}", secret / "ca.crt"
            with Client(url, tls=Tls(ca=ca), retries=ONCE) as clip:
                wait_until(clip.is_ready, running=process)
                assert clip.embed_texts(["一只猫"]).shape == (1, 64)
            # Without mutual TLS, the server requests no client certificate and accepts any.
            with Client(
                url, tls=Tls(ca=ca, certificate=other / "tls.crt", key=other / "tls.key"), retries=ONCE
            ) as clip:
                assert clip.embed_texts(["一只猫"]).shape == (1, 64)
            for tls in (None, Tls(ca=other / "ca.crt")):
                with Client(url, tls=tls, retries=ONCE, timeout=5) as clip, pytest.raises(ServerError):
                    clip.embed_texts(["一只猫"])
            process.terminate()
            assert process.wait(60) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            log.close()


@pytest.mark.parametrize("secret", ["mutual TLS"], indirect=True)
def test_mutual_tls_refuses_clients_without_a_certificate(fleet: Fleet, edge: Edge) -> None:
    assert fleet.tls is not None
    for url in (edge.url, f"localhost:{fleet.port}"):
        for tls in (None, Tls(ca=fleet.tls.ca, server_name="localhost")):
            with Client(url, tls=tls, retries=ONCE, timeout=5) as clip, pytest.raises(ServerError):
                clip.embed_texts(["一只猫"])


class Callers:
    """Closed-loop callers, which call Envoy in threads until the context manager exits.

    Half of the threads use the SDK, and half a plain gRPC client without retries.

    Attributes:
        failures: the exceptions of failed calls.
        answers: the number of answered calls.
    """

    def __init__(self, edge: Edge, tls: Tls | None, threads: int = 4) -> None:
        self.failures: list[BaseException] = []
        self.answers = 0
        self._edge, self._tls = edge, tls
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(self._sdk if number % 2 else self._plain, number))
            for number in range(threads)
        ]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_answers(self, count: int) -> None:
        """Wait until the given number of further calls have been answered."""
        goal = self.answers + count
        wait_until(lambda: self.answers >= goal)

    def _call(self, embed: Callable[[int], Iterator[None]], number: int) -> None:
        answers = embed(number)
        while not self._stop.is_set():
            try:
                next(answers)
                self.answers += 1
            except Exception as error:
                self.failures.append(error)
                answers = embed(number)
                self._stop.wait(0.05)

    def _sdk(self, number: int) -> Iterator[None]:
        with Client(self._edge.url, tls=self._tls, remembered_texts=0) as clip:
            while True:
                clip.embed_texts([f"第{number}句"])
                yield

    def _plain(self, number: int) -> Iterator[None]:
        if self._tls is None:
            credentials = None
        else:
            parts = (Path(str(part)).read_bytes() for part in (self._tls.ca, self._tls.key, self._tls.certificate))
            credentials = grpc.ssl_channel_credentials(*parts)
        with InferenceServerClient(self._edge.url, ssl=credentials is not None, creds=credentials) as triton:
            text = InferInput("text", [1, 1], "BYTES")
            text.set_data_from_numpy(np.array([[f"第{number}句".encode()]], dtype=np.object_))
            while True:
                triton.infer("text_embedding", [text], client_timeout=30)
                yield


@pytest.mark.provokes_trouble
def test_no_call_fails_while_every_server_is_replaced(fleet: Fleet, edge: Edge) -> None:
    """No call fails during a rolling restart of both servers.

    As in a cluster, a server first leaves the DNS name, drains, gets SIGTERM, and then starts again.
    """
    with Callers(edge, fleet.tls) as callers:
        callers.wait_for_answers(100)
        for host, server in zip(fleet.hosts, fleet.servers, strict=True):
            fleet.names.addresses = [other for other in fleet.hosts if other != host]
            time.sleep(fleet.drain_seconds)
            os.kill(server.pid, signal.SIGTERM)
            wait_until(lambda server=server: server.poll() is not None)
            callers.wait_for_answers(100)  # the other server answers them
            server.restart()
            fleet.names.addresses = list(fleet.hosts)
            wait_until(lambda: edge.members("healthy") == 2)
            wait_until(lambda: min(fleet.requests()) >= 20)  # the callers use the restarted server again
    assert callers.failures == []


@pytest.mark.provokes_trouble
def test_calls_are_spread_and_a_dead_server_is_left_out(fleet: Fleet, edge: Edge) -> None:
    before = fleet.requests()
    with Client(edge.url, tls=fleet.tls) as clip:
        for number in range(80):
            clip.embed_texts([f"第{number}只猫"])
        answered = [now - then for now, then in zip(fleet.requests(), before, strict=True)]
        assert min(answered) >= 10, answered
        os.kill(fleet.servers[1].pid, signal.SIGKILL)
        for number in range(40):
            clip.embed_texts([f"第{number}只狗"])  # the SDK retries requests to the dead server
    try:
        wait_until(lambda: edge.members("healthy") == 1)
        with Client(edge.url, tls=fleet.tls, retries=ONCE) as clip:
            for number in range(40):
                clip.embed_texts([f"第{number}匹马"])
    finally:
        fleet.servers[1].restart()
        wait_until(lambda: edge.members("healthy") == 2)

"""Envoy, as the chart configures it, in front of two real servers; and the chart's own test, run against both."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.support.chart import rendered
from tests.support.command import wait_until
from tests.support.servers import RecordedServer
from tuwen import Client, RetryPolicy, ServerError, Tls
from tuwen_server import ServerOptions
from tuwen_server._runtime import find_runtime

ENVOY = Path(sys.executable).with_name("envoy")
pytestmark = pytest.mark.skipif(not ENVOY.exists(), reason="Envoy comes for Linux only")
ONCE = RetryPolicy(attempts=1)


class Edge:
    """Two servers and the chart's Envoy in front of them.

    Args:
        repository: the repository that the servers serve.
        folder: for Envoy's configuration and log.
        secret: the folder that the pods of the chart find at /tls; None: without TLS.
        stack: stops everything at the end.
    """

    def __init__(self, repository: Path, folder: Path, secret: Path | None, stack: ExitStack) -> None:
        self.tls = secret and Tls(ca=secret / "ca.crt", certificate=secret / "tls.crt", key=secret / "tls.key")
        arguments = () if secret is None else _server_tls(secret)
        self.servers = [
            RecordedServer(repository, replace(ServerOptions.on_free_ports(), arguments=arguments)) for _ in range(2)
        ]
        for server in self.servers:
            stack.enter_context(server)
        free = ServerOptions.on_free_ports().with_ports_resolved()
        self.url, self.metrics_port = f"localhost:{free.grpc_port}", free.http_port
        config = folder / "envoy.yaml"
        config.write_text(yaml.safe_dump(self._config(secret, free)), encoding="utf-8")
        objects = rendered({"envoy": {"enabled": True}})
        [container] = objects["Deployment/envoy"]["spec"]["template"]["spec"]["containers"]
        arguments = [str(config) if one.endswith("envoy.yaml") else one for one in container["args"]]
        log = (folder / "envoy.log").open("w")
        process = subprocess.Popen([ENVOY, *arguments], stdout=log, stderr=log)
        stack.callback(log.close)
        stack.callback(process.wait)
        stack.callback(process.kill)

    def _config(self, secret: Path | None, free: ServerOptions) -> Any:
        """Return the chart's configuration of Envoy with the addresses and folders of this test."""
        chosen = {"envoy": {"enabled": True}, "tls": {"secret": "clip-tls", "mutual": True} if secret else {}}
        text = rendered(chosen)["ConfigMap/envoy"]["data"]["envoy.yaml"]
        config = yaml.safe_load(text.replace("/tls/", f"{secret}/"))
        config["admin"]["address"]["socket_address"]["port_value"] = free.metrics_port
        for listener, port in zip(
            config["static_resources"]["listeners"], (free.grpc_port, free.http_port), strict=True
        ):
            listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
        server, admin = config["static_resources"]["clusters"]
        server["type"] = "STATIC"
        server["load_assignment"]["endpoints"][0]["lb_endpoints"] = [_endpoint(one.grpc_url) for one in self.servers]
        admin["load_assignment"]["endpoints"][0]["lb_endpoints"] = [_endpoint(f"127.0.0.1:{free.metrics_port}")]
        return config

    def healthy(self) -> int:
        """Return how many servers Envoy sends requests to."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/stats/prometheus", timeout=10) as page:
                text = page.read().decode()
        except OSError:  # Envoy does not listen yet
            return 0
        found = re.search(r'^envoy_cluster_membership_healthy\{envoy_cluster_name="server"\} (\d+)', text, re.MULTILINE)
        return int(found[1]) if found else 0

    def requests(self) -> list[int]:
        """Return how many requests each server has answered."""
        found = []
        for server in self.servers:
            with Client(f"localhost:{server.grpc_url.rpartition(':')[2]}", tls=self.tls) as clip:
                statistics = clip.statistics()
                found.append(statistics["text_embedding"].requests if statistics else 0)
        return found


def write_secret(folder: Path) -> None:
    """Write the files of a Secret with certificates, named as cert-manager names them."""
    folder.mkdir()
    authority = trustme.CA()
    mine = authority.issue_cert("localhost", "127.0.0.1")
    mine.private_key_pem.write_to_path(folder / "tls.key")
    for blob in mine.cert_chain_pems:
        blob.write_to_path(folder / "tls.crt", append=True)
    authority.cert_pem.write_to_path(folder / "ca.crt")


def _endpoint(url: str) -> dict[str, Any]:
    host, _, port = url.rpartition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}


def _server_tls(secret: Path) -> tuple[str, ...]:
    """Return the arguments about TLS that the chart starts its pods with."""
    chosen = {"tls": {"secret": "clip-tls", "mutual": True}}
    [server] = rendered(chosen)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return tuple(
        one.replace("/tls/", f"{secret}/") for one in server["args"] if "ssl" in one or "cert" in one or "-key=/" in one
    )


@pytest.fixture(scope="module", params=["plain", "mutual TLS"])
def edge(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("edge")
    secret = None
    if request.param == "mutual TLS":
        secret = folder / "tls"
        write_secret(secret)
    with ExitStack() as stack:
        running = Edge(repository, folder, secret, stack)
        with Client(running.url, tls=running.tls) as clip:
            wait_until(clip.is_ready)
        wait_until(lambda: running.healthy() == 2)
        yield running


def test_the_chart_s_own_test_passes(edge: Edge) -> None:
    chosen = {"tls": {"secret": "clip-tls", "mutual": True}} if edge.tls else {}
    [container] = rendered(chosen)["Pod/test"]["spec"]["containers"]
    [program] = container["args"]
    program = program.replace("dns:///clip-tuwen-headless.search.svc:8001", edge.url)
    if edge.tls:
        program = program.replace("/tls/", f"{Path(str(edge.tls.ca)).parent}/")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "family='chinese-clip'" in done.stdout
    assert "cosine" in done.stdout


def test_a_pod_s_own_arguments_start_a_server(repository: Path, tmp_path: Path) -> None:
    """The container's command as the chart renders it, on the embedded tritonserver."""
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
            # This TLS is not mutual: the server asks for no certificate, so anybody's certificate will do.
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


@pytest.mark.parametrize("edge", ["mutual TLS"], indirect=True)
def test_mutual_tls_turns_away_clients_without_a_certificate(edge: Edge) -> None:
    assert edge.tls is not None
    for url in (edge.url, edge.servers[0].grpc_url):
        for tls in (None, Tls(ca=edge.tls.ca, server_name="localhost")):
            with Client(url, tls=tls, retries=ONCE, timeout=5) as clip, pytest.raises(ServerError):
                clip.embed_texts(["一只猫"])


@pytest.mark.provokes_trouble
def test_calls_are_spread_and_a_dead_server_is_left_out(edge: Edge) -> None:
    before = edge.requests()
    with Client(edge.url, tls=edge.tls) as clip:
        for number in range(80):
            clip.embed_texts([f"第{number}只猫"])
        answered = [now - then for now, then in zip(edge.requests(), before, strict=True)]
        assert min(answered) >= 10, answered
        os.kill(edge.servers[1].pid, signal.SIGKILL)
        for number in range(40):
            clip.embed_texts([f"第{number}只狗"])  # the SDK repeats requests that the dead server had
    try:
        wait_until(lambda: edge.healthy() == 1)
        with Client(edge.url, tls=edge.tls, retries=ONCE) as clip:
            for number in range(40):
                clip.embed_texts([f"第{number}匹马"])
    finally:
        edge.servers[1].restart()
        wait_until(lambda: edge.healthy() == 2)

"""The chart's Envoy in front of real servers, configured by the rendered files themselves.

Only what a pod decides is replaced in those files: the ports, the mount points of the Secrets, and, by Envoy's own
merge of a second configuration, the name server of the cluster.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import trustme

from tests.support.chart import rendered
from tests.support.command import wait_until
from tests.support.name_server import NameServer
from tests.support.servers import RecordedServer
from tuwen import Client, Tls
from tuwen_server import ServerOptions

__all__ = ["ENVOY", "HOSTS", "SERVER_NAME", "Edge", "Fleet", "write_secret"]

ENVOY = Path(sys.executable).with_name("envoy")
HOSTS = ["127.0.0.1", "127.0.0.2"]
SERVER_NAME = "clip-tuwen-headless.search.svc"


class Fleet:
    """A server on each host, all on one port, and a name server that knows those which are ready; a context manager.

    Args:
        repository: the repository that all serve.
        secret: the folder that pods find at /tls; None: without TLS.
        hosts: the addresses of the servers.
        values: the chart's values, of which the servers take the arguments about TLS and connections.
    """

    def __init__(
        self,
        repository: Path,
        secret: Path | None = None,
        hosts: list[str] | None = None,
        values: dict[str, Any] | None = None,
    ) -> None:
        self.hosts = HOSTS if hosts is None else hosts
        self.tls = secret and Tls(ca=secret / "ca.crt", certificate=secret / "tls.crt", key=secret / "tls.key")
        self.port = ServerOptions.on_free_ports().with_ports_resolved().grpc_port
        [container] = rendered(values or {})["Deployment"]["spec"]["template"]["spec"]["containers"]
        kept = ("ssl", "cert", "-key=/", "connection-age")
        arguments = tuple(
            one.replace("/tls/", f"{secret}/") for one in container["args"] if any(part in one for part in kept)
        )
        self.drain_seconds: int = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.servers = [
            RecordedServer(
                repository,
                replace(ServerOptions.on_free_ports(), host=host, grpc_port=self.port, arguments=arguments),
            )
            for host in self.hosts
        ]
        self.names = NameServer(list(self.hosts))
        self._stack = ExitStack()

    def __enter__(self) -> Fleet:
        with ExitStack() as stack:
            stack.enter_context(self.names)
            for server in self.servers:
                stack.enter_context(server)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def requests(self) -> list[int]:
        """Return how many text requests each server has answered."""
        found = []
        for host in self.hosts:
            tls = self.tls and replace(self.tls, server_name="localhost")
            with Client(f"{host}:{self.port}", tls=tls) as clip:
                statistics = clip.statistics()
                found.append(statistics["text_embedding"].requests if statistics else 0)
        return found


class Edge:
    """A running Envoy; a context manager.

    Args:
        fleet: the servers behind Envoy.
        folder: for Envoy's configuration and log.
        secret: the folder that pods find at /tls; None: without TLS.
        values: the chart's values beside those that enable Envoy and TLS.
    """

    def __init__(
        self, fleet: Fleet, folder: Path, secret: Path | None = None, values: dict[str, Any] | None = None
    ) -> None:
        self._folder = folder
        chosen = {"tls": {"secret": "clip-tls", "mutual": True} if secret else {}, **(values or {})}
        chosen["envoy"] = {"enabled": True, **chosen.get("envoy", {})}
        objects = rendered(chosen)
        free = ServerOptions.on_free_ports().with_ports_resolved()
        self.url, self.metrics_port = f"localhost:{free.grpc_port}", free.http_port
        mounted = folder / "envoy"
        mounted.mkdir(parents=True)
        for name, text in objects["Secret/envoy"]["stringData"].items():
            for old, new in {
                "address: 0.0.0.0, port_value: 8001": f"address: 127.0.0.1, port_value: {free.grpc_port}",
                "address: 0.0.0.0, port_value: 9902": f"address: 127.0.0.1, port_value: {free.http_port}",
                "port_value: 9901": f"port_value: {free.metrics_port}",
                f"{SERVER_NAME}, port_value: 8001": f"{SERVER_NAME}, port_value: {fleet.port}",
                "/etc/envoy/": f"{mounted}/",
                "/tls/": f"{secret}/",
                "path: /tls}": f"path: {secret}}}",
            }.items():
                text = text.replace(old, new)  # noqa: PLW2901 - each replacement works on the last one's result
            (mounted / name).write_text(text, encoding="utf-8")
        [container] = objects["Deployment/envoy"]["spec"]["template"]["spec"]["containers"]
        arguments = [str(mounted / "envoy.yaml") if one.endswith("envoy.yaml") else one for one in container["args"]]
        self._command = [str(ENVOY), *arguments, "--config-yaml", json.dumps(_resolver(fleet.names.port))]

    def __enter__(self) -> Edge:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, seconds: float = 60) -> None:
        """Start, and wait until Envoy has found a healthy server. Envoy keeps running if it finds none."""
        with (self._folder / "envoy.log").open("w") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(lambda: self.members("healthy") > 0, seconds=seconds, running=self._process)

    def stop(self) -> None:
        """End Envoy."""
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """Return what Envoy has logged."""
        return (self._folder / "envoy.log").read_text(encoding="utf-8")

    def metrics(self) -> str:
        """Return Envoy's metrics; nothing while Envoy does not listen yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/stats/prometheus", timeout=10) as page:
                text: str = page.read().decode()
                return text
        except OSError:
            return ""

    def metric(self, pattern: str) -> float:
        """Return the sum of the values of a metric's series, which a regular expression describes."""
        return sum(float(value) for value in re.findall(rf"^(?:{pattern}) (\S+)$", self.metrics(), re.MULTILINE))

    def members(self, state: str) -> int:
        """Return the number of servers that Envoy knows (``total``) or sends requests to (``healthy``)."""
        return int(self.metric(rf'envoy_cluster_membership_{state}\{{envoy_cluster_name="server"\}}'))


def _resolver(port: int) -> dict[str, Any]:
    """Return the part of Envoy's configuration that names the name server, which a pod has in /etc/resolv.conf."""
    kind = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    typed = {"@type": kind, "resolvers": [address], "dns_resolver_options": {"no_default_search_domain": True}}
    return {"typed_dns_resolver_config": {"name": "envoy.network.dns_resolver.cares", "typed_config": typed}}


def write_secret(
    folder: Path,
    *names: str,
    authority: trustme.CA | None = None,
    expires: datetime.datetime | None = None,
) -> None:
    """Write or replace the files of a Secret with certificates, named as cert-manager names them.

    The files lie in a folder to which a link points, as the kubelet writes them, and change all at once.

    Args:
        folder: where pods find the Secret.
        names: the names of the certificate; default: those of the test's machine and of the chart's Service.
        authority: issues the certificate; default: a new one.
        expires: when the certificate does.
    """
    authority = authority or trustme.CA()
    folder.mkdir(exist_ok=True)
    current = folder / "..data"
    mounted = folder / f"..{len(list(folder.iterdir()))}"
    mounted.mkdir()
    certificate = authority.issue_cert(*(names or ("localhost", *HOSTS, SERVER_NAME)), not_after=expires)
    certificate.private_key_pem.write_to_path(mounted / "tls.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(mounted / "tls.crt", append=True)
    authority.cert_pem.write_to_path(mounted / "ca.crt")
    following = folder / "..data_tmp"
    following.symlink_to(mounted.name)
    following.rename(current)
    for file in mounted.iterdir():
        if not (folder / file.name).is_symlink():
            (folder / file.name).symlink_to(f"..data/{file.name}")

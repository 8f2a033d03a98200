"""The chart's Envoy in front of real servers, with the configuration files that the chart renders.

Tests replace only the parts that depend on the pod: the ports, the mount points of the Secrets, and the cluster's name
server. A second configuration, which Envoy merges, names the name server.
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
    """Several servers and a name server that lists their addresses; a context manager.

    Each server has an address of its own, and all listen on the same port. To take a server out of the list, a test
    changes ``names.addresses``.

    Args:
        repository: the repository that every server serves.
        secret: the folder that a pod finds at /tls; None: the servers use no TLS.
        hosts: the addresses of the servers; None: `HOSTS`.
        values: values of the chart; None: the defaults. The servers get the arguments about TLS and connections that
            the chart renders with these values.
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
        """Return the number of text requests that each server has answered, in the order of the hosts."""
        found = []
        for host in self.hosts:
            tls = self.tls and replace(self.tls, server_name="localhost")
            with Client(f"{host}:{self.port}", tls=tls) as clip:
                statistics = clip.statistics()
                found.append(statistics["text_embedding"].requests if statistics else 0)
        return found


class Edge:
    """An Envoy process with the chart's configuration; a context manager.

    Args:
        fleet: the servers behind Envoy.
        folder: the folder for Envoy's configuration and log.
        secret: the folder that a pod finds at /tls; None: Envoy uses no TLS.
        values: further values of the chart. The values that enable Envoy and TLS are set already.
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
        """Start Envoy, and wait until it has found a healthy server.

        If Envoy finds no healthy server within `seconds`, the test fails, and Envoy keeps running.
        """
        with (self._folder / "envoy.log").open("w") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(lambda: self.members("healthy") > 0, seconds=seconds, running=self._process)

    def stop(self) -> None:
        """End Envoy."""
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        """Return the text of Envoy's log."""
        return (self._folder / "envoy.log").read_text(encoding="utf-8")

    def metrics(self) -> str:
        """Return the text of Envoy's metrics, which is empty until Envoy listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/stats/prometheus", timeout=10) as page:
                text: str = page.read().decode()
                return text
        except OSError:
            return ""

    def metric(self, pattern: str) -> float:
        """Return the sum of the values of all series whose name and labels match a regular expression."""
        return sum(float(value) for value in re.findall(rf"^(?:{pattern}) (\S+)$", self.metrics(), re.MULTILINE))

    def members(self, state: str) -> int:
        """Return the number of servers that Envoy knows (``total``) or sends requests to (``healthy``)."""
        return int(self.metric(rf'envoy_cluster_membership_{state}\{{envoy_cluster_name="server"\}}'))


def _resolver(port: int) -> dict[str, Any]:
    """Return the part of Envoy's configuration that names the DNS server. A pod finds it in /etc/resolv.conf."""
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
    """Write or replace the files of a Secret with certificates, under the names that cert-manager gives them.

    As the kubelet does, the function writes the files into a new folder, and then points a symbolic link at this
    folder. So all files change in the same moment.

    Args:
        folder: the folder at which a pod mounts the Secret.
        names: the names and addresses in the certificate; without any: the names of this machine and of the chart's
            Service.
        authority: the authority that issues the certificate; None: a new authority.
        expires: the time when the certificate expires; None: the default of trustme.
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

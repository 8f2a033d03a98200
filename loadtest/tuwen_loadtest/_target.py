"""The target of a load test: a running server, or servers that are started for the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tuwen import InvalidArgumentError
from tuwen.connection import is_loopback
from tuwen.statistics import Statistics
from tuwen_loadtest._connection import Connection
from tuwen_loadtest._usage import Usage, usage_of

if TYPE_CHECKING:
    from tuwen_server import EmbeddedServer

__all__ = ["Target", "served"]


@dataclass(frozen=True)
class Target:
    """The server or servers that a load test sends its requests to.

    Attributes:
        name: the address or the folder that the user named.
        connection: the address and the credentials of the server.
        metrics: the addresses of the servers' Prometheus metrics; empty if the addresses are not known.
        servers: the servers that were started for the test; empty for a server that already ran.
    """

    name: str
    connection: Connection
    metrics: Sequence[str] = ()
    servers: Sequence[EmbeddedServer] = field(default=(), repr=False)

    @property
    def on_this_machine(self) -> bool:
        """Whether the server was started for the test, or has an address of this machine's loopback."""
        return bool(self.servers) or is_loopback(self.connection.url.rpartition(":")[0])

    def usage(self) -> Mapping[int, Usage]:
        """Return the used resources of each server that was started for the test, by process ID."""
        return {server.pid: usage_of(server.pid) for server in self.servers}

    def statistics(self, timeout: float) -> Sequence[Statistics]:
        """Return the statistics of each server. If several remote servers share one name, only one of them is asked.

        Raises:
            ServeError: a server that was started for the test has ended.
            TuwenError: a server does not respond.
        """
        for server in self.servers:
            if server.poll() is not None:
                from tuwen_server.errors import ServeError  # noqa: PLC0415 - a server elsewhere needs none here

                raise ServeError(f"the server of the load test stopped before the test ended: {server.trouble()}")
        urls = [server.grpc_url for server in self.servers] or [self.connection.url]
        found = []
        for url in urls:
            with replace(self.connection, url=url).client(timeout) as clip:
                found.append(clip.statistics())
        return found


@contextmanager
def served(
    connection: Connection, say: Callable[[str], None], *, count: int = 1, metrics: str | None = None
) -> Iterator[Target]:
    """Provide the target for the duration of the test.

    Args:
        connection: the connection to a server. If the address is a repository's folder, servers are started with it.
        say: a function that is called with a sentence about each step.
        count: the number of servers to start; more than 1 only for a folder.
        metrics: the address of a server's Prometheus metrics, such as ``http://host:8002/metrics``; None: not known.

    Raises:
        InvalidArgumentError: several servers are needed, and the target is not a folder.
        ServeError: the repository cannot be served.
    """
    if not Path(connection.url).is_dir():
        if count > 1:
            raise InvalidArgumentError(
                f"expected the folder of a repository, got '{connection.url}'; the scenario can restart only "
                "servers that it started"
            )
        yield Target(connection.url, connection, [metrics] if metrics else [])
        return
    from tuwen_repository.manifest import Manifest  # noqa: PLC0415
    from tuwen_server import (  # noqa: PLC0415 - a server elsewhere needs none here
        EmbeddedServer,
        ServerOptions,
        ensure_installed,
    )

    ensure_installed(say=say)
    with ExitStack() as stack:
        say(f"serving {connection.url}" + (f" {count} times" if count > 1 else ""))
        servers = []
        for _ in range(count):
            options = ServerOptions.on_free_ports().with_ports_resolved()
            servers.append(stack.enter_context(EmbeddedServer(Path(connection.url), options)))
        urls = ",".join(server.grpc_url for server in servers)
        model = Manifest.read(Path(connection.url)).name
        started = Connection(urls if count == 1 else f"ipv4:{urls}", model=model)
        yield Target(connection.url, started, [server.metrics_url for server in servers], servers)

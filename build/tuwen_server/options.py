"""The options of the embedded server and of its tuning. Light to import: the command line reads these dataclasses."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tuwen import InvalidArgumentError
from tuwen.connection import bracketed, is_loopback
from tuwen_options import Option, check_values, documented
from tuwen_server.errors import PortTakenError

__all__ = ["ServerOptions", "TuningOptions"]

_LOOPBACK = "127.0.0.1"
_REACHABLE = {"": _LOOPBACK, "0.0.0.0": _LOOPBACK, "::": "::1"}  # noqa: S104 - compared, not bound
_LONGEST_DRAIN = 1_000_000  # seconds; Triton takes a 32-bit integer
_LARGEST_CACHE = 1 << 30  # MiB, a pebibyte; Triton takes bytes as a 64-bit integer
_OURS = {
    "--model-repository",
    "--backend-directory",
    "--model-control-mode",
    "--cache-config",
    "--exit-timeout-secs",
    "--grpc-restricted-protocol",
    "--http-restricted-api",
    *(f"--{protocol}-{part}" for protocol in ("http", "grpc", "metrics") for part in ("address", "port")),
}


@documented
@dataclass(frozen=True)
class ServerOptions:
    """The addresses, ports, limits and checks of the embedded server.

    The server has no password, so it listens on loopback by default.
    """

    host: Annotated[
        str,
        Option("Address on which gRPC and metrics listen. The server has no password, so 0.0.0.0 lets anybody in."),
    ] = _LOOPBACK
    grpc_port: Annotated[int, Option("Port of gRPC, for clients. 0 takes a free port.", min=0, max=65535)] = 8001
    http_port: Annotated[int, Option("Port of HTTP, for health checks. 0 takes a free port.", min=0, max=65535)] = 8000
    metrics_port: Annotated[
        int, Option("Port of the metrics, for Prometheus. 0 takes a free port.", min=0, max=65535)
    ] = 8002
    # Off by default because of CVE-2025-23310 (NVIDIA security bulletin of August 2025).
    http_inference: Annotated[
        bool,
        Option(
            "Allow inference and metadata over HTTP, and listen for HTTP on the address of gRPC instead of loopback. "
            "Unsafe: one malformed HTTP request ends this server."
        ),
    ] = False
    queue_policies: Annotated[
        bool,
        Option(
            "Keep the queue policies and priorities of the built repository, as NVIDIA's container does. With "
            "policies, Triton 2.51 lets requests that arrive at the same time wait for up to 500 ms."
        ),
    ] = False
    ready_timeout: Annotated[
        float, Option("Maximum time in seconds until every model is loaded and warmed up at the start.", above=0)
    ] = 300.0
    drain_timeout: Annotated[
        int,
        Option(
            "Maximum time in seconds that a stopping server waits for requests in flight. 0: no wait.",
            min=0,
            max=_LONGEST_DRAIN,
        ),
    ] = 30
    silence: Annotated[
        float,
        Option("Number of seconds without an answer after which a running server counts as failed.", above=0),
    ] = 60.0
    cache_mib: Annotated[
        int,
        Option(
            "Memory in MiB for the vectors of the latest texts, shared by the instances of the text encoder. "
            "0 turns the cache off.",
            min=0,
            max=_LARGEST_CACHE,
        ),
    ] = 64
    key: Annotated[
        str | None,
        Option(
            "Secret that a request must carry (triton-grpc-protocol-tuwen) to load models, register shared memory, or "
            "change tracing and logging. Without a key, such requests are rejected.",
            envvar="TUWEN_SERVER_KEY",
        ),
    ] = field(default=None, repr=False)
    check_files: Annotated[
        bool,
        Option(
            "Before the start, check that all files except configs are unchanged since the build.",
            flags=("--check/--no-check",),
        ),
    ] = True
    log_file: Annotated[Path | None, Option("File to which tritonserver's log is appended. Default: no file.")] = None
    arguments: Annotated[
        tuple[str, ...],
        Option(
            "Further arguments of tritonserver, after --, such as --trace-config=mode=opentelemetry.",
            positional=True,
        ),
    ] = ()

    def __post_init__(self) -> None:
        check_values(self)
        object.__setattr__(self, "host", self.host.removeprefix("[").removesuffix("]"))
        fixed = [port for port in self.ports.values() if port]
        if len(set(fixed)) < len(fixed):
            raise InvalidArgumentError(f"expected three different ports, got {self.ports}")
        if self.key is not None and not re.fullmatch(r"[\w.-]{16,}", self.key, re.ASCII):
            raise InvalidArgumentError("key: expected at least 16 letters, digits, '-', '_' or '.'")
        for argument in self.arguments:
            name = argument.partition("=")[0]
            if not name.startswith("--"):
                raise InvalidArgumentError(
                    f"arguments: expected an argument of tritonserver such as --log-verbose=1, got {argument!r}"
                )
            if name in _OURS:
                raise InvalidArgumentError(f"arguments: {name} is set by tuwen itself; use an option of tuwen instead")

    @classmethod
    def on_free_ports(cls) -> ServerOptions:
        """Return options for a server on free ports, for example in tests."""
        return cls(http_port=0, grpc_port=0, metrics_port=0)

    @property
    def ports(self) -> dict[str, int]:
        """The ports by protocol."""
        return {"HTTP": self.http_port, "gRPC": self.grpc_port, "metrics": self.metrics_port}

    @property
    def http_host(self) -> str:
        """The address that HTTP listens on."""
        return self.host if self.http_inference else _LOOPBACK

    @property
    def reachable_host(self) -> str:
        """An address of this machine at which the server answers gRPC and metrics requests; IPv6 in brackets."""
        return _reachable(self.host)

    @property
    def reachable_http_host(self) -> str:
        """An address of this machine at which the server answers HTTP requests; IPv6 in brackets."""
        return _reachable(self.http_host)

    @property
    def exposed(self) -> bool:
        """Whether other machines may reach the server."""
        return not is_loopback(self.host)

    def with_ports_resolved(self) -> ServerOptions:
        """Return these options with a free port instead of every 0. Other ports are checked.

        Raises:
            PortTakenError: a given port is in use.
        """
        sockets = []
        try:
            for protocol, port in self.ports.items():
                host = self.http_host if protocol == "HTTP" else self.host
                listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
                sockets.append(listener)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind((host, port))
                except (OSError, UnicodeError) as error:  # a UnicodeError: the host is too long for a name
                    why = getattr(error, "strerror", None) or error
                    raise PortTakenError(
                        f"cannot listen on {bracketed(host)}:{port} for {protocol}: {why}; choose another port, "
                        "or 0 for a free one"
                    ) from None
            http, grpc, metrics = (listener.getsockname()[1] for listener in sockets)
        finally:
            for listener in sockets:
                listener.close()
        return replace(self, http_port=http, grpc_port=grpc, metrics_port=metrics)


@documented
@dataclass(frozen=True)
class TuningOptions:
    """The options of a tuning."""

    url: Annotated[
        str | None,
        Option(
            "Address host:port of a server that runs the repository with --model-control-mode=explicit, such as "
            "NVIDIA's container on a GPU. Its models are loaded again for each trial. Default: each trial starts a "
            "server on this machine.",
            flags=("--url", "-u"),
        ),
    ] = None
    key: Annotated[
        str | None,
        Option("Key of the restricted protocols of the server at --url.", envvar="TUWEN_SERVER_KEY"),
    ] = field(default=None, repr=False)
    seconds: Annotated[
        float, Option("Duration of each measurement in seconds. A trial has four measurements.", above=0)
    ] = 5.0
    longest_wait: Annotated[
        float | None,
        Option(
            "Maximum time in seconds that a request may wait in the queue of a model before it is rejected. Default: "
            "the limits of the queues do not change.",
            above=0,
        ),
    ] = None

    def __post_init__(self) -> None:
        check_values(self)


def _reachable(address: str) -> str:
    return bracketed(_REACHABLE.get(address, address))
